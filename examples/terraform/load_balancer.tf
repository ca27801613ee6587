data "aws_subnet" "load_balancer" {
  for_each = var.load_balancer_subnet_ids

  id = each.value
}

resource "aws_lb" "redis" {
  #checkov:skip=CKV_AWS_91:A network load balancer logs TLS listeners only, and this one is TCP.
  #checkov:skip=CKV_AWS_150:terraform destroy must be able to delete the example. Protect the one that you keep.
  name               = var.name
  load_balancer_type = "network"
  internal           = var.internal
  subnets            = var.load_balancer_subnet_ids
  security_groups    = [aws_security_group.load_balancer.id]

  enable_cross_zone_load_balancing = true

  lifecycle {
    precondition {
      condition = length(setsubtract(
        [for subnet in data.aws_subnet.cache : subnet.availability_zone],
        [for subnet in data.aws_subnet.load_balancer : subnet.availability_zone],
      )) == 0
      error_message = "The load balancer needs a subnet in each zone of the cache, else a primary there gets nothing."
    }
  }
}

resource "aws_lb_listener" "redis" {
  load_balancer_arn = aws_lb.redis.arn
  protocol          = "TCP"
  port              = var.port

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.redis.arn
  }
}

# The function registers the targets, so this configuration has no attachment.
resource "aws_lb_target_group" "redis" {
  name        = var.name
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "TCP"
  port        = aws_elasticache_replication_group.redis.port

  # Clients leave the demoted node when the delay is over. A shorter delay can leave some of them on it.
  deregistration_delay   = 120
  connection_termination = true
  # With one target, the load balancer's other zones have none of their own.
  load_balancing_cross_zone_enabled = "true"

  health_check {
    protocol            = "TCP"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  tags = {
    for tag, value in {
      "nlb-hostname-target/fleet"     = var.fleet
      "nlb-hostname-target/endpoints" = aws_elasticache_replication_group.redis.primary_endpoint_address
    } : tag => value if var.fleet != null
  }
}

resource "aws_security_group" "load_balancer" {
  name_prefix = "${var.name}-load-balancer-"
  description = "Admits the clients to the load balancer"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = var.client_cidrs

  security_group_id = aws_security_group.load_balancer.id
  description       = "Clients"
  ip_protocol       = "tcp"
  from_port         = var.port
  to_port           = var.port
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "cache" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "Connections and health checks to the cache"
  ip_protocol                  = "tcp"
  from_port                    = aws_elasticache_replication_group.redis.port
  to_port                      = aws_elasticache_replication_group.redis.port
  referenced_security_group_id = aws_security_group.cache.id
}

resource "aws_security_group" "cache" {
  name_prefix = "${var.name}-cache-"
  description = "Admits the load balancer to the cache"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  security_group_id            = aws_security_group.cache.id
  description                  = "Connections and health checks of the load balancer"
  ip_protocol                  = "tcp"
  from_port                    = aws_elasticache_replication_group.redis.port
  to_port                      = aws_elasticache_replication_group.redis.port
  referenced_security_group_id = aws_security_group.load_balancer.id
}
