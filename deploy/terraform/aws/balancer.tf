# https from the world to the taskapps; a taskapp gets requests while it is ready.

resource "aws_lb" "main" {
  name                       = local.name
  load_balancer_type         = "application"
  subnets                    = aws_subnet.public[*].id
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  preserve_host_header       = true
  enable_deletion_protection = var.environment == "production"
  idle_timeout               = 60 # seconds; taskapp keeps a connection for 75
}

resource "aws_lb_target_group" "taskapp" {
  name                          = local.name
  port                          = 8000
  protocol                      = "HTTP"
  target_type                   = "ip"
  vpc_id                        = aws_vpc.main.id
  deregistration_delay          = 30 # seconds
  load_balancing_algorithm_type = "least_outstanding_requests"
  health_check {
    path                = "/api/health/ready"
    matcher             = "200"
    interval            = 5
    timeout             = 4
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.taskapp.arn
  }
}
