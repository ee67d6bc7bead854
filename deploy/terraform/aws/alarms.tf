# What somebody has to look at, and what scales the service.

resource "aws_sns_topic" "alarms" {
  name              = "${local.name}-alarms"
  kms_master_key_id = aws_kms_key.main.id
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.alarm_email == "" ? 0 : 1
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "scaling" {
  for_each            = { up = 70, down = 30 } # percent
  alarm_name          = "${local.name}-scale-${each.key}"
  comparison_operator = each.key == "up" ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value
  namespace           = "AWS/ECS"
  metric_name         = "CPUUtilization"
  statistic           = "Average"
  period              = 60
  evaluation_periods  = each.key == "up" ? 2 : 10
  dimensions          = { ClusterName = aws_ecs_cluster.main.name, ServiceName = aws_ecs_service.taskapp.name }
  alarm_actions       = [aws_appautoscaling_policy.step[each.key].arn]
}

locals {
  of_balancer = { LoadBalancer = aws_lb.main.arn_suffix }
  of_database = { DBInstanceIdentifier = aws_db_instance.main.identifier }
  alarms = {
    errors         = { namespace = "AWS/ApplicationELB", metric = "HTTPCode_Target_5XX_Count", statistic = "Sum", above = true, threshold = 10, dimensions = local.of_balancer }
    slow           = { namespace = "AWS/ApplicationELB", metric = "TargetResponseTime", statistic = "Average", above = true, threshold = 1, dimensions = local.of_balancer }
    database-cpu   = { namespace = "AWS/RDS", metric = "CPUUtilization", statistic = "Average", above = true, threshold = 80, dimensions = local.of_database }
    database-space = { namespace = "AWS/RDS", metric = "FreeStorageSpace", statistic = "Minimum", above = false, threshold = 2147483648, dimensions = local.of_database }
    nobody-healthy = { namespace = "AWS/ApplicationELB", metric = "HealthyHostCount", statistic = "Minimum", above = false, threshold = 1, dimensions = merge(local.of_balancer, { TargetGroup = aws_lb_target_group.taskapp.arn_suffix }) }
  }
}

resource "aws_cloudwatch_metric_alarm" "trouble" {
  for_each            = local.alarms
  alarm_name          = "${local.name}-${each.key}"
  comparison_operator = each.value.above ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value.threshold
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  dimensions          = each.value.dimensions
  period              = 60
  evaluation_periods  = 3
  treat_missing_data  = each.key == "nobody-healthy" ? "breaching" : "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
