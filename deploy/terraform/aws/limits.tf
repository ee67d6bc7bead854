# Redis counts the rate limits for all taskapps, in two zones.

resource "aws_elasticache_subnet_group" "limits" {
  name       = "${local.name}-limits"
  subnet_ids = aws_subnet.private[*].id
}

resource "aws_elasticache_replication_group" "limits" {
  replication_group_id       = "${local.name}-limits"
  description                = "rate limits of ${local.name}"
  engine                     = "redis"
  engine_version             = "7.1"
  node_type                  = "cache.t4g.micro"
  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true
  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.main.arn
  transit_encryption_enabled = true
  subnet_group_name          = aws_elasticache_subnet_group.limits.name
  security_group_ids         = [aws_security_group.limits.id]
  auto_minor_version_upgrade = true
}
