variable "environment" {
  description = "staging or production; part of every name"
  type        = string
  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "It is staging or production."
  }
}

variable "region" {
  description = "region of AWS"
  type        = string
  default     = "eu-central-1"
}

variable "domain" {
  description = "host name of the site, such as tasks.example.com"
  type        = string
}

variable "certificate_arn" {
  description = "certificate of the domain, in the region, for the load balancer"
  type        = string
}

variable "global_certificate_arn" {
  description = "certificate of the domain in us-east-1, for CloudFront"
  type        = string
}

variable "image" {
  description = "image of taskapp in a registry, with its digest"
  type        = string
}

variable "alarm_email" {
  description = "address that is told of alarms; empty: none"
  type        = string
  default     = ""
}

variable "cidr" {
  description = "addresses of the network"
  type        = string
  default     = "10.20.0.0/16"
}

variable "database_class" {
  description = "class of the database's machines"
  type        = string
  default     = "db.t4g.medium"
}

variable "tasks" {
  description = "least and greatest number of taskapps"
  type        = object({ min = number, max = number })
  default     = { min = 2, max = 5 }
}
