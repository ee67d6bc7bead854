# CloudFront in front of all: /static is kept at its edges, for its addresses change with the contents; nothing else is kept.

locals {
  # Policies of AWS, whose ids are the same for everybody.
  kept              = "658327ea-f89d-4fab-a63d-7e88639e58f6" # Managed-CachingOptimized
  not_kept          = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad" # Managed-CachingDisabled
  all_of_the_viewer = "216adef6-5c7f-47e4-b989-5492eafa07d3" # Managed-AllViewer
}

resource "aws_cloudfront_distribution" "main" {
  enabled         = true
  is_ipv6_enabled = true
  http_version    = "http2and3"
  comment         = local.name
  aliases         = [var.domain]
  price_class     = "PriceClass_100"

  origin {
    origin_id   = "balancer"
    domain_name = aws_lb.main.dns_name
    custom_origin_config {
      http_port              = 80
      https_port             = 443
      origin_protocol_policy = "https-only"
      origin_ssl_protocols   = ["TLSv1.2"]
    }
  }

  default_cache_behavior {
    target_origin_id         = "balancer"
    viewer_protocol_policy   = "redirect-to-https"
    allowed_methods          = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
    cached_methods           = ["GET", "HEAD"]
    cache_policy_id          = local.not_kept
    origin_request_policy_id = local.all_of_the_viewer
  }

  ordered_cache_behavior {
    path_pattern           = "/static/*"
    target_origin_id       = "balancer"
    viewer_protocol_policy = "redirect-to-https"
    allowed_methods        = ["GET", "HEAD"]
    cached_methods         = ["GET", "HEAD"]
    compress               = true
    cache_policy_id        = local.kept
  }

  # A script that sends its token unencrypted has to fail (ASVS 4.1.2); a redirect would hide it.
  ordered_cache_behavior {
    path_pattern             = "/api/*"
    target_origin_id         = "balancer"
    viewer_protocol_policy   = "https-only"
    allowed_methods          = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
    cached_methods           = ["GET", "HEAD"]
    cache_policy_id          = local.not_kept
    origin_request_policy_id = local.all_of_the_viewer
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    acm_certificate_arn      = var.global_certificate_arn
    minimum_protocol_version = "TLSv1.2_2021"
    ssl_support_method       = "sni-only"
  }
}
