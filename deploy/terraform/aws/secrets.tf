# Their values are not in the state of Terraform: docs/how-to/terraform.md says how to set them.
resource "aws_kms_key" "main" {
  description         = "secrets, database and logs of ${local.name}"
  enable_key_rotation = true
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Account"
        Effect    = "Allow"
        Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "Logs"
        Effect    = "Allow"
        Principal = { Service = "logs.${var.region}.amazonaws.com" }
        Action    = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
        Resource  = "*"
      },
    ]
  })
}

data "aws_caller_identity" "current" {}

resource "aws_secretsmanager_secret" "all" {
  for_each    = toset(["database-url", "migration-database-url", "secret-key", "limit-storage"])
  name        = "${local.name}/${each.key}"
  description = "TASKAPP_${upper(replace(each.key, "-", "_"))} of ${local.name}"
  kms_key_id  = aws_kms_key.main.arn
}
