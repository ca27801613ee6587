data "aws_s3_bucket" "packages" {
  bucket = var.bucket
}

# Another template gets another key, and so another URL, by which Terraform sees that the stack needs an update. The old
# object stays until the stack has been updated.
resource "aws_s3_object" "template" {
  bucket = data.aws_s3_bucket.packages.bucket
  key    = "${var.name}-follow/${filesha256(var.packaged_template)}.yaml"
  source = var.packaged_template

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  parameters = {
    Endpoints        = aws_elasticache_replication_group.redis.primary_endpoint_address
    TargetGroupArns  = aws_lb_target_group.redis.arn
    FailoverTopicArn = aws_sns_topic.notifications.arn
    AllowedCidrs     = join(",", sort([for subnet in data.aws_subnet.cache : subnet.cidr_block]))
  }
}

resource "aws_cloudformation_stack" "follow" {
  #checkov:skip=CKV_AWS_124:Terraform waits for the stack and says what failed.
  name         = "${var.name}-follow"
  template_url = "https://${data.aws_s3_bucket.packages.bucket_regional_domain_name}/${aws_s3_object.template.key}"
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  parameters   = merge(local.parameters, var.settings)
}
