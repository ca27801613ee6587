output "load_balancer_dns_name" {
  description = "Where clients connect, with TLS"
  value       = aws_lb.redis.dns_name
}

output "port" {
  description = "Port of the load balancer"
  value       = aws_lb_listener.redis.port
}

output "primary_endpoint" {
  description = "The name that the target group follows, and whose certificate a client verifies"
  value       = aws_elasticache_replication_group.redis.primary_endpoint_address
}

output "auth_token_arn" {
  description = "The secret with the AUTH token"
  value       = aws_secretsmanager_secret.auth_token.arn
}

output "function_name" {
  description = "For sam remote invoke, aws lambda invoke and the dimension FunctionName; null with a fleet"
  value       = one(aws_cloudformation_stack.follow[*].outputs["FunctionName"])
}
