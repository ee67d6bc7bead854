output "address" {
  description = "where the domain has to lead: a CNAME or an alias"
  value       = aws_cloudfront_distribution.main.domain_name
}

output "database" {
  description = "host of PostgreSQL, for the two addresses in the secrets"
  value       = aws_db_instance.main.address
}

output "limits" {
  description = "host of Redis, for the secret limit-storage: rediss://HOST:6379/0"
  value       = aws_elasticache_replication_group.limits.primary_endpoint_address
}

output "secrets" {
  description = "the secrets whose values are to be set"
  value       = { for name, secret in aws_secretsmanager_secret.all : name => secret.arn }
}

output "migration" {
  description = "what runs the migration: docs/how-to/terraform.md"
  value = {
    cluster         = aws_ecs_cluster.main.name
    task_definition = aws_ecs_task_definition.all["migration"].family
    subnets         = aws_subnet.private[*].id
    security_groups = [aws_security_group.taskapp.id]
  }
}
