terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.90, < 6.0"
    }
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { Project = "taskapp", Environment = var.environment }
  }
}

# CloudFront takes certificates and metrics of this region alone.
provider "aws" {
  alias  = "global"
  region = "us-east-1"
  default_tags {
    tags = { Project = "taskapp", Environment = var.environment }
  }
}

locals {
  name = "taskapp-${var.environment}"
}
