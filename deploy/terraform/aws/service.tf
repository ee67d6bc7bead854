# taskapp on ECS Fargate: 2 to 5, by the processor; and a task that migrates the tables.

resource "aws_cloudwatch_log_group" "taskapp" {
  name              = "/${local.name}"
  retention_in_days = 30
  kms_key_id        = aws_kms_key.main.arn
}

resource "aws_ecs_cluster" "main" {
  name = local.name
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

data "aws_iam_policy_document" "ecs" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# What starts a task: it reads the secrets and writes the log. taskapp itself may do nothing in AWS, and has no role.
resource "aws_iam_role" "start" {
  name               = "${local.name}-start"
  assume_role_policy = data.aws_iam_policy_document.ecs.json
}

resource "aws_iam_role_policy_attachment" "start" {
  role       = aws_iam_role.start.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "secrets" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for secret in aws_secretsmanager_secret.all : secret.arn]
  }
  statement {
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.main.arn]
  }
}

resource "aws_iam_role_policy" "secrets" {
  name   = "secrets"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.secrets.json
}

locals {
  settings = {
    TASKAPP_PUBLIC_URL      = "https://${var.domain}"
    TASKAPP_LOG_FORMAT      = "json"
    TASKAPP_BACKUP_EVERY    = "off" # RDS makes them
    TASKAPP_METRICS_ALLOW   = var.cidr
    TASKAPP_TRUSTED_PROXIES = join(",", concat([var.cidr], local.cloudfront))
  }
  cloudfront = sort([for entry in data.aws_ec2_managed_prefix_list.cloudfront.entries : entry.cidr])
  secrets = {
    TASKAPP_DATABASE_URL  = "database-url"
    TASKAPP_SECRET_KEY    = "secret-key"
    TASKAPP_LIMIT_STORAGE = "limit-storage"
  }
  container = {
    name                   = "taskapp"
    image                  = var.image
    essential              = true
    readonlyRootFilesystem = true
    user                   = "10001:10001"
    stopTimeout            = 45 # seconds
    environment            = [for name, value in local.settings : { name = name, value = value }]
    secrets                = [for name, key in local.secrets : { name = name, valueFrom = aws_secretsmanager_secret.all[key].arn }]
    portMappings           = [{ containerPort = 8000, hostPort = 8000, protocol = "tcp" }]
    mountPoints            = [{ sourceVolume = "data", containerPath = "/var/lib/taskapp", readOnly = false }]
    linuxParameters        = { capabilities = { drop = ["ALL"], add = [] }, initProcessEnabled = true }
    healthCheck            = { command = ["CMD", "python", "server.py", "health"], interval = 30, timeout = 15, startPeriod = 30, retries = 3 }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.taskapp.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "taskapp"
      }
    }
    systemControls = []
    volumesFrom    = []
  }
  # It asks nobody for its health, listens nowhere, and may change tables.
  migration = merge(local.container, {
    name    = "migration"
    command = ["python", "server.py", "migrate"]
    secrets = concat(local.container.secrets, [{
      name      = "TASKAPP_MIGRATION_DATABASE_URL"
      valueFrom = aws_secretsmanager_secret.all["migration-database-url"].arn
    }])
    portMappings = []
    healthCheck  = { command = ["CMD", "true"], interval = 30, timeout = 5, startPeriod = 0, retries = 3 }
  })
}

resource "aws_ecs_task_definition" "all" {
  for_each                 = { taskapp = local.container, migration = local.migration }
  family                   = "${local.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512  # half a core
  memory                   = 1024 # MiB; the least that Fargate has for it
  execution_role_arn       = aws_iam_role.start.arn
  container_definitions    = jsonencode([each.value])
  # Gone with the task. It belongs to taskapp's user because the image names the folder as a volume.
  volume {
    name = "data"
  }
}

resource "aws_ecs_service" "taskapp" {
  name                               = "taskapp"
  cluster                            = aws_ecs_cluster.main.id
  task_definition                    = aws_ecs_task_definition.all["taskapp"].arn
  desired_count                      = var.tasks.min
  launch_type                        = "FARGATE"
  platform_version                   = "LATEST"
  health_check_grace_period_seconds  = 60
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  # A version that does not become healthy is taken back by itself.
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  network_configuration {
    subnets          = aws_subnet.private[*].id
    security_groups  = [aws_security_group.taskapp.id]
    assign_public_ip = false
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.taskapp.arn
    container_name   = "taskapp"
    container_port   = 8000
  }
  depends_on = [aws_lb_listener.https]
  lifecycle {
    ignore_changes = [desired_count] # that is the scaling's
  }
}

resource "aws_appautoscaling_target" "taskapp" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.taskapp.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.tasks.min
  max_capacity       = var.tasks.max
}

# One more above 70 % of the processor, one less below 30 %.
resource "aws_appautoscaling_policy" "step" {
  for_each           = { up = 1, down = -1 }
  name               = "${local.name}-${each.key}"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.taskapp.service_namespace
  resource_id        = aws_appautoscaling_target.taskapp.resource_id
  scalable_dimension = aws_appautoscaling_target.taskapp.scalable_dimension
  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    cooldown                = each.value > 0 ? 60 : 300 # seconds
    metric_aggregation_type = "Average"
    step_adjustment {
      scaling_adjustment          = each.value
      metric_interval_lower_bound = each.value > 0 ? "0" : null
      metric_interval_upper_bound = each.value > 0 ? null : "0"
    }
  }
}
