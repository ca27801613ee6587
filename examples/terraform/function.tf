# A fleet's deployment needs no stack for this cache, but the tags of the target group.
locals {
  stacks = var.fleet == null ? 1 : 0
}

data "aws_s3_bucket" "packages" {
  count = local.stacks

  bucket = var.bucket

  lifecycle {
    precondition {
      condition     = var.bucket != null && fileexists(var.packaged_template)
      error_message = "Without a fleet, the stack needs the bucket and the template that sam package wrote."
    }
  }
}

# Another template gets another key, and so another URL, by which Terraform sees that the stack needs an update. The old
# object stays until the stack has been updated.
resource "aws_s3_object" "template" {
  count = local.stacks

  bucket = data.aws_s3_bucket.packages[0].bucket
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
  count = local.stacks

  name         = "${var.name}-follow"
  template_url = "https://${data.aws_s3_bucket.packages[0].bucket_regional_domain_name}/${aws_s3_object.template[0].key}"
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  parameters   = merge(local.parameters, var.settings)
}
