variable "region" {
  type        = string
  description = "Region of everything here. The bucket must be in it too, since Lambda takes the code from there."

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "A Region as eu-west-1."
  }
}

variable "name" {
  type        = string
  default     = "redis"
  description = "Name of the replication group, the load balancer, the target group and the stack."

  # The name must fit the limits of both services: 40 characters in ElastiCache, and 32 in Elastic Load Balancing, which
  # reserves "internal-".
  validation {
    condition = (
      can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name)) && length(var.name) <= 32 &&
      !startswith(var.name, "internal-")
    )
    error_message = "At most 32 lower-case letters, digits and single hyphens, beginning with a letter, not internal-."
  }
}

variable "fleet" {
  type        = string
  default     = null
  description = "Fleet of a deployment that exists. It finds the target group by its tags, and no stack is made here."

  validation {
    condition     = var.fleet == null || can(regex("^[A-Za-z0-9._-]{1,64}$", var.fleet))
    error_message = "1 to 64 letters, digits, points, underscores and hyphens, as the parameter Fleet."
  }
}

variable "bucket" {
  type        = string
  default     = null
  description = "Bucket that sam package put the function's code into. The packaged template goes there too."

  validation {
    condition     = var.bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "The name of a bucket, without s3://."
  }
}

variable "packaged_template" {
  type        = string
  default     = "packaged.yaml"
  description = "What sam package wrote, relative to the directory that terraform runs in."

  validation {
    condition     = !fileexists(var.packaged_template) || can(regex("CodeUri: s3://", file(var.packaged_template)))
    error_message = "A file that sam package wrote, which names the bucket of the function's code."
  }
}

variable "settings" {
  type        = map(string)
  default     = {}
  description = "Parameters of the template, by the names in docs/configuration.md. They win over what is set here."

  # CloudFormation itself refuses a name that the template does not have.
  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^[A-Z][A-Za-z]*$", name))])
    error_message = "Names of the template's parameters, such as ScheduleExpression."
  }
}

variable "vpc_id" {
  type        = string
  description = "VPC of the cache and the load balancer."

  validation {
    condition     = can(regex("^vpc-[0-9a-f]{8,17}$", var.vpc_id))
    error_message = "The id of a VPC as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  type        = set(string)
  description = "Two or more subnets of the cache, in different zones. Private ones are right."

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Multi-AZ needs two subnets in different zones."
  }

  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]{8,17}$", id))])
    error_message = "Ids of subnets as subnet-0123456789abcdef0."
  }
}

variable "load_balancer_subnet_ids" {
  type        = set(string)
  description = "One subnet of the load balancer in each zone of the cache's subnets. They may be the same ones."

  validation {
    condition     = length(var.load_balancer_subnet_ids) >= 2
    error_message = "The load balancer needs a subnet in each zone of the cache."
  }

  validation {
    condition     = alltrue([for id in var.load_balancer_subnet_ids : can(regex("^subnet-[0-9a-f]{8,17}$", id))])
    error_message = "Ids of subnets as subnet-0123456789abcdef0."
  }
}

variable "client_cidrs" {
  type        = set(string)
  description = "IPv4 ranges of the clients. The load balancer admits nobody else."

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "At least one IPv4 range as 192.168.0.0/16."
  }
}

variable "internal" {
  type        = bool
  default     = true
  description = "true gives the load balancer private addresses, false public ones, which need public subnets."
}

variable "port" {
  type        = number
  default     = 6379
  description = "Port of the load balancer."

  validation {
    condition     = var.port >= 1 && var.port <= 65535 && floor(var.port) == var.port
    error_message = "A port from 1 to 65535."
  }
}

variable "node_type" {
  type        = string
  default     = "cache.t4g.small"
  description = "Type of each node of the cache."

  validation {
    condition     = can(regex("^cache\\.[a-z0-9-]+\\.[a-z0-9]+$", var.node_type))
    error_message = "A type as cache.t4g.small or cache.r7g.large."
  }
}

variable "nodes" {
  type        = number
  default     = 2
  description = "The primary and its replicas, from 2 to 6."

  validation {
    condition     = contains([2, 3, 4, 5, 6], var.nodes)
    error_message = "A number from 2 to 6: a failover needs a replica."
  }
}

variable "maintenance_window" {
  type        = string
  default     = "sun:05:00-sun:06:00"
  description = "When ElastiCache may maintain the nodes, in UTC."

  validation {
    condition     = can(regex("^[a-z]{3}:[0-9]{2}:[0-9]{2}-[a-z]{3}:[0-9]{2}:[0-9]{2}$", var.maintenance_window))
    error_message = "A window of at least an hour as sun:05:00-sun:06:00."
  }
}

variable "snapshot_retention_days" {
  type        = number
  default     = 7
  description = "Days that a daily snapshot is kept, from 0, which takes none, to 35."

  validation {
    condition = (
      var.snapshot_retention_days >= 0 && var.snapshot_retention_days <= 35 &&
      floor(var.snapshot_retention_days) == var.snapshot_retention_days
    )
    error_message = "Days from 0 to 35."
  }
}
