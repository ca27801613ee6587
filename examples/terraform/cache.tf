data "aws_caller_identity" "current" {}

data "aws_subnet" "cache" {
  for_each = var.subnet_ids

  id = each.value
}

resource "aws_elasticache_replication_group" "redis" {
  #checkov:skip=CKV_AWS_191:The key of AWS encrypts at rest. A key of your own costs, and needs a policy of its own.
  replication_group_id = var.name
  description          = "Followed by ${var.name}-follow"
  engine               = "valkey"
  engine_version       = "8.0"
  node_type            = var.node_type
  port                 = 6379

  num_cache_clusters         = var.nodes
  automatic_failover_enabled = true
  multi_az_enabled           = true
  subnet_group_name          = aws_elasticache_subnet_group.cache.name
  security_group_ids         = [aws_security_group.cache.id]

  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  auth_token                 = random_password.auth_token.result
  auth_token_update_strategy = "ROTATE"

  notification_topic_arn   = aws_sns_topic.notifications.arn
  maintenance_window       = var.maintenance_window
  snapshot_retention_limit = var.snapshot_retention_days

  # ElastiCache stops publishing to a topic that refused it once.
  depends_on = [aws_sns_topic_policy.notifications]
}

resource "aws_elasticache_subnet_group" "cache" {
  name        = var.name
  description = "Subnets of the cache ${var.name}"
  subnet_ids  = var.subnet_ids
}

# ElastiCache accepts 16 to 128 characters, and only a few of those that are neither letters nor digits.
resource "random_password" "auth_token" {
  length  = 64
  special = false
}

resource "aws_secretsmanager_secret" "auth_token" {
  #checkov:skip=CKV_AWS_149:The account's key encrypts it. A key of your own costs, and needs a policy of its own.
  #checkov:skip=CKV2_AWS_57:Clients would have to read the new token in time. Rotate it when they can.
  name_prefix = "${var.name}-auth-token-"
  description = "What a client of the cache ${var.name} authenticates with"
}

resource "aws_secretsmanager_secret_version" "auth_token" {
  secret_id     = aws_secretsmanager_secret.auth_token.id
  secret_string = random_password.auth_token.result
}

resource "aws_sns_topic" "notifications" {
  #checkov:skip=CKV_AWS_26:ElastiCache cannot publish to an encrypted topic. A message names only a node and an event.
  name = "${var.name}-notifications"
}

resource "aws_sns_topic_policy" "notifications" {
  arn    = aws_sns_topic.notifications.arn
  policy = data.aws_iam_policy_document.notifications.json
}

# ElastiCache needs AWS:SourceOwner, and does not support aws:SourceAccount.
# https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ECEvents.SNS.html
data "aws_iam_policy_document" "notifications" {
  statement {
    sid       = "AllowTheAccountOfTheCache"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.notifications.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "AWS:SourceOwner"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}
