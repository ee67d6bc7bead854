# taskapp on DigitalOcean's App Platform with managed PostgreSQL. Never applied: docs/how-to/terraform.md says what was checked.
terraform {
  required_version = ">= 1.9"
  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = ">= 2.49, < 3.0"
    }
  }
}

# The token is in DIGITALOCEAN_TOKEN.
provider "digitalocean" {}

variable "environment" {
  description = "staging or production; part of every name"
  type        = string
}

variable "region" {
  description = "data center"
  type        = string
  default     = "fra1"
}

variable "domain" {
  description = "host name of the site, such as tasks.example.com"
  type        = string
}

variable "repository" {
  description = "repository of taskapp's image in DigitalOcean's registry"
  type        = string
  default     = "taskapp"
}

variable "digest" {
  description = "digest of the image, sha256:…"
  type        = string
}

variable "trusted_proxies" {
  description = "networks from which the proxies of App Platform reach a container: the log has them as address while this is empty"
  type        = string
}

# The state of Terraform holds them: keep it where only operators read.
variable "secrets" {
  description = "TASKAPP_DATABASE_URL, TASKAPP_SECRET_KEY, TASKAPP_LIMIT_STORAGE and TASKAPP_MIGRATION_DATABASE_URL"
  type        = map(string)
  sensitive   = true
}

locals {
  name = "taskapp-${var.environment}"
  settings = {
    TASKAPP_PUBLIC_URL      = "https://${var.domain}"
    TASKAPP_LOG_FORMAT      = "json"
    TASKAPP_BACKUP_EVERY    = "off" # the managed database makes them
    TASKAPP_TRUSTED_PROXIES = var.trusted_proxies
  }
  secrets           = toset(["TASKAPP_DATABASE_URL", "TASKAPP_SECRET_KEY", "TASKAPP_LIMIT_STORAGE"])
  migration_secrets = setunion(local.secrets, ["TASKAPP_MIGRATION_DATABASE_URL"])
}

# With a standby; every second of the last seven days can be restored.
resource "digitalocean_database_cluster" "main" {
  name       = local.name
  engine     = "pg"
  version    = "17"
  size       = "db-s-2vcpu-4gb"
  region     = var.region
  node_count = 2
  maintenance_window {
    day  = "sunday"
    hour = "03:30:00"
  }
}

resource "digitalocean_database_cluster" "limits" {
  name       = "${local.name}-limits"
  engine     = "valkey"
  version    = "8"
  size       = "db-s-1vcpu-1gb"
  region     = var.region
  node_count = 1
}

# Only the app reaches them.
resource "digitalocean_database_firewall" "all" {
  for_each   = { main = digitalocean_database_cluster.main.id, limits = digitalocean_database_cluster.limits.id }
  cluster_id = each.value
  rule {
    type  = "app"
    value = digitalocean_app.taskapp.id
  }
}

resource "digitalocean_app" "taskapp" {
  spec {
    name   = local.name
    region = substr(var.region, 0, 3)
    domain {
      name = var.domain
      type = "PRIMARY"
    }
    alert {
      rule = "DEPLOYMENT_FAILED"
    }
    alert {
      rule = "DOMAIN_FAILED"
    }
    # Migrates the tables before a new version serves; if it fails, the old one goes on.
    job {
      name               = "migration"
      kind               = "PRE_DEPLOY"
      run_command        = "python server.py migrate"
      instance_count     = 1
      instance_size_slug = "apps-d-1vcpu-0.5gb"
      image {
        registry_type = "DOCR"
        repository    = var.repository
        digest        = var.digest
      }
      dynamic "env" {
        for_each = local.settings
        content {
          key   = env.key
          value = env.value
          scope = "RUN_TIME"
        }
      }
      dynamic "env" {
        for_each = local.migration_secrets
        content {
          key   = env.value
          value = var.secrets[env.value]
          scope = "RUN_TIME"
          type  = "SECRET"
        }
      }
    }
    service {
      name               = "taskapp"
      http_port          = 8000
      instance_size_slug = "apps-d-1vcpu-0.5gb"
      image {
        registry_type = "DOCR"
        repository    = var.repository
        digest        = var.digest
      }
      autoscaling {
        min_instance_count = 2
        max_instance_count = 5
        metrics {
          cpu {
            percent = 70
          }
        }
      }
      health_check {
        http_path             = "/api/health/ready"
        initial_delay_seconds = 5
        period_seconds        = 5
        timeout_seconds       = 5
        failure_threshold     = 6
      }
      termination {
        drain_seconds        = 15
        grace_period_seconds = 45
      }
      dynamic "env" {
        for_each = local.settings
        content {
          key   = env.key
          value = env.value
          scope = "RUN_TIME"
        }
      }
      dynamic "env" {
        for_each = local.secrets
        content {
          key   = env.value
          value = var.secrets[env.value]
          scope = "RUN_TIME"
          type  = "SECRET"
        }
      }
    }
    ingress {
      rule {
        component {
          name = "taskapp"
        }
        match {
          path {
            prefix = "/"
          }
        }
      }
    }
  }
}

output "database" {
  description = "host of PostgreSQL, for the two addresses in the secrets"
  value       = digitalocean_database_cluster.main.private_host
}

output "limits" {
  description = "host of Valkey, for TASKAPP_LIMIT_STORAGE: rediss://default:PASSWORD@HOST:25061/0"
  value       = digitalocean_database_cluster.limits.private_host
}

output "address" {
  description = "where the domain has to lead"
  value       = digitalocean_app.taskapp.default_ingress
}
