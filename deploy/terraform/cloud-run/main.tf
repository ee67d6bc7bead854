# taskapp on Cloud Run with Cloud SQL. Never applied: docs/how-to/terraform.md says what was checked.
terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.14, < 8.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

variable "project" {
  description = "project of Google Cloud"
  type        = string
}

variable "region" {
  description = "region of Google Cloud"
  type        = string
  default     = "europe-west1"
}

variable "environment" {
  description = "staging or production; part of every name"
  type        = string
}

variable "domain" {
  description = "host name of the site, such as tasks.example.com"
  type        = string
}

variable "image" {
  description = "image of taskapp in Artifact Registry, with its digest"
  type        = string
}

variable "trusted_proxies" {
  description = "networks from which Cloud Run's proxies reach a container: the log has them as address while this is wrong"
  type        = string
  default     = "169.254.0.0/16"
}

locals {
  name = "taskapp-${var.environment}"
  settings = {
    TASKAPP_PUBLIC_URL      = "https://${var.domain}"
    TASKAPP_LOG_FORMAT      = "json"
    TASKAPP_BACKUP_EVERY    = "off" # Cloud SQL makes them
    TASKAPP_TRUSTED_PROXIES = var.trusted_proxies
  }
  secrets = {
    TASKAPP_DATABASE_URL  = "database-url"
    TASKAPP_SECRET_KEY    = "secret-key"
    TASKAPP_LIMIT_STORAGE = "limit-storage"
  }
  migration_secrets = merge(local.secrets, { TASKAPP_MIGRATION_DATABASE_URL = "migration-database-url" })
}

# PostgreSQL and Redis have addresses in this network only.
resource "google_compute_network" "main" {
  name                    = local.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "main" {
  name                     = local.name
  network                  = google_compute_network.main.id
  ip_cidr_range            = "10.20.0.0/20"
  private_ip_google_access = true
}

resource "google_compute_global_address" "services" {
  name          = "${local.name}-services"
  network       = google_compute_network.main.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "main" {
  network                 = google_compute_network.main.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
}

# In two zones; every second of the last 7 days can be restored.
resource "google_sql_database_instance" "main" {
  name                = local.name
  database_version    = "POSTGRES_17"
  deletion_protection = var.environment == "production"
  depends_on          = [google_service_networking_connection.main]
  settings {
    edition           = "ENTERPRISE"
    tier              = "db-custom-2-4096"
    availability_type = "REGIONAL"
    disk_autoresize   = true
    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.main.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }
    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
      start_time                     = "02:00"
      transaction_log_retention_days = 7
      backup_retention_settings {
        retained_backups = 14
      }
    }
    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }
    database_flags {
      name  = "log_connections"
      value = "on"
    }
    database_flags {
      name  = "log_disconnections"
      value = "on"
    }
    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
  }
}

resource "google_redis_instance" "limits" {
  name               = local.name
  tier               = "STANDARD_HA"
  memory_size_gb     = 1
  authorized_network = google_compute_network.main.id
  connect_mode       = "PRIVATE_SERVICE_ACCESS"
  auth_enabled       = true
  depends_on         = [google_service_networking_connection.main]
}

# Their values are not in the state of Terraform: `gcloud secrets versions add` sets them.
resource "google_secret_manager_secret" "all" {
  for_each  = toset(values(local.migration_secrets))
  secret_id = "${local.name}-${each.key}"
  replication {
    auto {}
  }
}

# It reads the secrets, and may do nothing else.
resource "google_service_account" "taskapp" {
  account_id   = local.name
  display_name = local.name
}

resource "google_secret_manager_secret_iam_member" "all" {
  for_each  = google_secret_manager_secret.all
  secret_id = each.value.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.taskapp.member
}

resource "google_cloud_run_v2_service" "taskapp" {
  name                = local.name
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  deletion_protection = var.environment == "production"
  depends_on          = [google_secret_manager_secret_iam_member.all]
  template {
    service_account                  = google_service_account.taskapp.email
    max_instance_request_concurrency = 80
    timeout                          = "60s"
    scaling {
      min_instance_count = 2
      max_instance_count = 5
    }
    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = google_compute_network.main.id
        subnetwork = google_compute_subnetwork.main.id
      }
    }
    containers {
      image = var.image
      ports {
        container_port = 8000
      }
      resources {
        limits   = { cpu = "1", memory = "512Mi" }
        cpu_idle = false # background jobs run between requests
      }
      # A revision that does not become ready gets no requests.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/api/health/ready"
          port = 8000
        }
      }
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/api/health/live"
          port = 8000
        }
      }
      dynamic "env" {
        for_each = local.settings
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.all[env.value].secret_id
              version = "latest"
            }
          }
        }
      }
    }
  }
}

# `gcloud run jobs execute NAME --wait` migrates the tables before a new version is applied.
resource "google_cloud_run_v2_job" "migration" {
  name                = "${local.name}-migration"
  location            = var.region
  deletion_protection = false
  depends_on          = [google_secret_manager_secret_iam_member.all]
  template {
    template {
      service_account = google_service_account.taskapp.email
      max_retries     = 0
      timeout         = "3600s"
      vpc_access {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = google_compute_network.main.id
          subnetwork = google_compute_subnetwork.main.id
        }
      }
      containers {
        image   = var.image
        command = ["python", "server.py", "migrate"]
        dynamic "env" {
          for_each = local.settings
          content {
            name  = env.key
            value = env.value
          }
        }
        dynamic "env" {
          for_each = local.migration_secrets
          content {
            name = env.key
            value_source {
              secret_key_ref {
                secret  = google_secret_manager_secret.all[env.value].secret_id
                version = "latest"
              }
            }
          }
        }
      }
    }
  }
}

# taskapp checks who somebody is, not Google.
resource "google_cloud_run_v2_service_iam_member" "everybody" {
  name     = google_cloud_run_v2_service.taskapp.name
  location = var.region
  role     = "roles/run.invoker"
  member   = "allUsers"
}

resource "google_cloud_run_domain_mapping" "main" {
  name     = var.domain
  location = var.region
  metadata {
    namespace = var.project
  }
  spec {
    route_name = google_cloud_run_v2_service.taskapp.name
  }
}

output "database" {
  description = "host of PostgreSQL, for the two addresses in the secrets"
  value       = google_sql_database_instance.main.private_ip_address
}

output "limits" {
  description = "host of Redis, for the secret limit-storage: redis://:PASSWORD@HOST:6379/0"
  value       = google_redis_instance.limits.host
}

output "secrets" {
  description = "the secrets whose values are to be set"
  value       = [for secret in google_secret_manager_secret.all : secret.secret_id]
}
