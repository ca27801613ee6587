//! The template, the documentation and the code tell the same story.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use crate::config::{samples, variables_read};
use crate::reading::table;
use crate::stack::Stack;

const TEMPLATE: &str = include_str!("../../template.yaml");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

fn template() -> Value {
    serde_yaml_ng::from_str(TEMPLATE).expect("the template is YAML")
}

fn keys(mapping: &Value) -> Vec<String> {
    let mapping = mapping.as_mapping().expect("a mapping");
    mapping
        .keys()
        .map(|key| key.as_str().unwrap().to_owned())
        .collect()
}

/// Returns every `!Ref` in the value.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Tagged(tagged) if tagged.tag == "Ref" => {
            vec![tagged.value.as_str().unwrap().to_owned()]
        }
        Value::Tagged(tagged) => references(&tagged.value),
        Value::Sequence(values) => values.iter().flat_map(references).collect(),
        Value::Mapping(mapping) => mapping.values().flat_map(references).collect(),
        _ => vec![],
    }
}

/// Returns the parameter that sets each variable.
fn parameters_of_variables() -> BTreeMap<String, String> {
    let template = template();
    let variables = &template["Resources"]["Function"]["Properties"]["Environment"]["Variables"];
    let of = |name: String| {
        let references = references(&variables[name.as_str()]);
        let [parameter] = &references[..] else {
            panic!("{name} is set from {references:?}")
        };
        (name.clone(), parameter.clone())
    };
    keys(variables).into_iter().map(of).collect()
}

/// Returns the rows of the page's table: parameters, variable, default.
fn all_rows() -> Vec<[String; 3]> {
    let rows = table(CONFIGURATION, "| Parameter | Variable |").into_iter();
    let cells = |row: Vec<&str>| [0, 1, 2].map(|column| row[column].replace('`', ""));
    rows.map(cells).collect()
}

/// Returns the rows that have a variable: variable, parameter, default.
fn rows() -> Vec<[String; 3]> {
    let rows = all_rows().into_iter();
    rows.filter(|[_, variable, _]| !variable.is_empty())
        .map(|[parameter, variable, default]| [variable, parameter, default])
        .collect()
}

#[test]
fn every_variable_of_the_code_stands_in_the_template_and_on_the_page_and_vice_versa() {
    let mut in_code = variables_read();
    // These cannot make the configuration invalid.
    in_code.insert(in_code.len() - 1, "URL_SUFFIX".to_owned());
    in_code.extend(["SCHEDULE_EXPRESSION", "ALARM_MINUTES"].map(str::to_owned));
    let in_template: BTreeSet<_> = parameters_of_variables().into_keys().collect();
    assert_eq!(in_template, in_code.iter().cloned().collect());
    let on_page: Vec<_> = rows().into_iter().map(|[variable, ..]| variable).collect();
    assert_eq!(
        on_page, in_code,
        "in the order in which the first bad one is reported"
    );
    for [variable, parameter, _] in rows() {
        assert_eq!(parameters_of_variables()[&variable], parameter);
    }
}

/// If the template has no default, or an empty one, the page says what that means.
#[test]
fn every_parameter_stands_on_the_page_once_with_its_default() {
    let template = template();
    let mut on_page = BTreeMap::new();
    for [parameters, _, default] in all_rows() {
        for parameter in parameters.split(", ") {
            let before = on_page.insert(parameter.to_owned(), default.clone());
            assert_eq!(before, None, "{parameter}");
        }
    }
    on_page.remove("AWS::URLSuffix");
    let parameters = keys(&template["Parameters"]);
    assert_eq!(
        on_page.keys().collect::<BTreeSet<_>>(),
        parameters.iter().collect()
    );
    for name in parameters {
        let shown = match &template["Parameters"][name.as_str()]["Default"] {
            Value::Null => "required".to_owned(),
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => text.clone(),
            number => serde_yaml_ng::to_string(number).unwrap().trim().to_owned(),
        };
        assert_eq!(on_page[&name], shown, "{name}");
    }
}

/// Returns all files below the folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let below = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(below).collect()
}

#[test]
fn nothing_but_main_reads_the_environment() {
    let reads = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .into_iter()
        .filter(|path| {
            let source = std::fs::read_to_string(path).unwrap();
            source.contains("env::var") || source.contains("std::env")
        });
    let names: Vec<_> = reads
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["main.rs"]);
}

#[test]
fn every_parameter_is_described_labelled_and_grouped() {
    let template = template();
    let interface = &template["Metadata"]["AWS::CloudFormation::Interface"];
    let groups = interface["ParameterGroups"].as_sequence().unwrap();
    let grouped = groups
        .iter()
        .flat_map(|group| group["Parameters"].as_sequence().unwrap());
    let mut grouped: Vec<_> = grouped
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let mut labelled = keys(&interface["ParameterLabels"]);
    let mut parameters = keys(&template["Parameters"]);
    for name in &parameters {
        let parameter = &template["Parameters"][name.as_str()];
        assert!(parameter["Description"].is_string(), "{name} is described");
        let is_bound = ["AllowedPattern", "AllowedValues", "MinValue"]
            .iter()
            .any(|bound| !parameter[*bound].is_null());
        assert!(is_bound, "{name} rejects nonsense");
        if parameter["AllowedPattern"].is_string() {
            assert!(
                parameter["ConstraintDescription"].is_string(),
                "{name} says what is expected"
            );
        }
    }
    assert_eq!(
        &parameters[..2],
        ["Endpoints", "TargetGroupArns"],
        "what matters is asked first"
    );
    parameters.sort();
    grouped.sort();
    labelled.sort();
    assert_eq!(grouped, parameters);
    assert_eq!(labelled, parameters);
}

#[test]
fn the_template_accepts_what_the_function_accepts_and_rejects_what_it_rejects() {
    let template = template();
    let parameters = parameters_of_variables();
    for (variable, _, valid, invalid) in samples() {
        // CloudFormation itself sets this one.
        if parameters[variable] == "AWS::URLSuffix" {
            continue;
        }
        let parameter = &template["Parameters"][parameters[variable].as_str()];
        let is_accepted = |value: &str| match parameter["AllowedPattern"].as_str() {
            Some(pattern) => {
                let pattern = fancy_regex::Regex::new(pattern).unwrap();
                let is_list = parameter["Type"] == "CommaDelimitedList";
                let elements: Vec<_> = if is_list {
                    value.split(',').map(str::trim).collect()
                } else {
                    vec![value]
                };
                elements
                    .iter()
                    .all(|element| pattern.is_match(element).unwrap())
            }
            None => parameter["AllowedValues"]
                .as_sequence()
                .unwrap()
                .iter()
                .any(|allowed| allowed == value),
        };
        for value in valid {
            assert!(is_accepted(&value), "{variable}={value:?} is accepted");
        }
        for value in invalid {
            assert!(!is_accepted(&value), "{variable}={value:?} is rejected");
        }
    }
}

/// SAM drops a parameter that the nested template does not have, and a looser pattern would only fail inside it.
#[test]
fn what_an_example_hands_on_is_a_parameter_of_the_template() {
    let known = &template()["Parameters"];
    let bounds = |parameter: &Value| {
        let mut bounds = parameter.as_mapping().unwrap().clone();
        bounds.remove("Description");
        bounds.remove("ConstraintDescription");
        bounds
    };
    for example in [
        include_str!("../../examples/elasticache-nlb.yaml"),
        include_str!("../../examples/existing-cluster.yaml"),
    ] {
        let example: Value = serde_yaml_ng::from_str(example).unwrap();
        let name = example["Description"].as_str().unwrap();
        let resources = example["Resources"].as_mapping().unwrap().values();
        let nested = resources.filter(|one| one["Type"] == "AWS::Serverless::Application");
        let handed_on = nested.map(|one| keys(&one["Properties"]["Parameters"]));
        let handed_on: Vec<_> = handed_on.collect();
        assert!(!handed_on.is_empty(), "{name}");
        for given in handed_on {
            let unknown: Vec<_> = given
                .iter()
                .filter(|one| known[one.as_str()].is_null())
                .collect();
            assert_eq!(unknown, [""; 0], "{name}");
            let schedule = "RuleName ScheduleExpression AlarmMinutes SchedulePauses AlarmTopicArn";
            for one in schedule.split(' ') {
                assert!(given.contains(&one.to_owned()), "{name} hands on {one}");
            }
        }
        for one in keys(&example["Parameters"]) {
            let (own, its) = (&example["Parameters"][one.as_str()], &known[one.as_str()]);
            if !its.is_null() {
                assert_eq!(bounds(own), bounds(its), "{name}: {one}");
            }
        }
    }
}

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html>
#[test]
fn a_schedule_is_what_eventbridge_takes() {
    let template = template();
    let pattern = &template["Parameters"]["ScheduleExpression"]["AllowedPattern"];
    let pattern = fancy_regex::Regex::new(pattern.as_str().unwrap()).unwrap();
    let is_valid = |expression: &str| pattern.is_match(expression).unwrap();
    let valid = "rate(1 minute)|rate(2 minutes)|rate(15 minutes)|rate(1 hour)|rate(24 hours)|rate(1 day)|rate(7 days)|\
                 cron(0/2 8-18 ? * MON-FRI *)|cron(* * * * ? *)|cron(0 10 * * ? *)|cron(15 12 * * ? *)|\
                 cron(0 8 1 * ? *)|cron(0/15 * * * ? *)|cron(0 8 L * ? *)|cron(0 8 3W * ? *)|cron(0 9 ? * 2#1 *)|\
                 cron(0 9 ? * 5L *)|cron(0,30 8-18/2 ? JAN-MAR mon 2026-2030)";
    for expression in valid.split('|') {
        assert!(is_valid(expression), "{expression}");
    }
    // The last crons are malformed: one has five fields, one seven, one both days, and two neither of them.
    let invalid = "|rate(1 minutes)|rate(5 minute)|rate(0 minutes)|rate(05 minutes)|rate(1.5 hours)|rate(30 seconds)|\
                   rate(5 minutes) |rate 5 minutes|rate(5minutes)|5 minutes|0 10 * * ? *|at(2026-11-30T08:00:00)|\
                   cron(0 10 * * ?)|cron(0 0 10 * * ? *)|cron(0 10 * * * *)|cron(0 10 1 * MON *)|\
                   cron(0 10 ? * ? *)|cron(0 10 * ? * *)";
    for expression in invalid.split('|') {
        assert!(!is_valid(expression), "{expression}");
    }
}

#[test]
fn the_minutes_of_the_alarms_are_5_to_1440() {
    let template = template();
    let minutes = &template["Parameters"]["AlarmMinutes"];
    let pattern = fancy_regex::Regex::new(minutes["AllowedPattern"].as_str().unwrap()).unwrap();
    for number in 0..=2000 {
        let is_accepted = pattern.is_match(&number.to_string()).unwrap();
        assert_eq!(is_accepted, (5..=1440).contains(&number), "{number}");
    }
}

#[test]
fn the_role_has_no_managed_policy_and_a_star_only_where_no_resource_can_be_named() {
    let template = template();
    let role = &template["Resources"]["Role"]["Properties"];
    assert!(role["ManagedPolicyArns"].is_null());
    assert!(template["Resources"]["Function"]["Properties"]["Policies"].is_null());
    let mut everywhere = BTreeSet::new();
    let mut statements = Vec::new();
    collect_statements(&role["Policies"], &mut statements);
    assert_eq!(statements.len(), 10);
    for statement in statements {
        if statement["Effect"] == "Deny" {
            continue;
        }
        assert_eq!(statement["Effect"], "Allow");
        if statement["Resource"] == "*" {
            let one = statement["Action"].as_str().map(str::to_owned);
            let several = statement["Action"].as_sequence().into_iter().flatten();
            let several = several.map(|action| action.as_str().unwrap().to_owned());
            everywhere.extend(one.into_iter().chain(several));
        }
    }
    let expected = [
        "cloudwatch:PutMetricData",
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
        "elasticloadbalancing:DescribeLoadBalancerAttributes",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "tag:GetResources",
    ];
    assert_eq!(everywhere, expected.map(str::to_owned).into());
}

fn collect_statements(value: &Value, statements: &mut Vec<Value>) {
    match value {
        Value::Mapping(mapping) if mapping.contains_key("Statement") => {
            let its = mapping["Statement"].as_sequence().unwrap().iter();
            // A statement may have a condition of the template.
            let its = its.map(|one| match &one["Fn::If"] {
                Value::Null => one.clone(),
                chosen => chosen[1].clone(),
            });
            statements.extend(its);
        }
        Value::Mapping(mapping) => mapping
            .values()
            .for_each(|value| collect_statements(value, statements)),
        Value::Sequence(values) => values
            .iter()
            .for_each(|value| collect_statements(value, statements)),
        Value::Tagged(tagged) => collect_statements(&tagged.value, statements),
        _ => (),
    }
}

/// Lambda itself creates `/aws/lambda/NAME` for a function of that name.
#[test]
fn no_function_of_the_stacks_name_has_the_log_group() {
    let template = template();
    let log = &template["Resources"]["LogGroup"]["Properties"]["LogGroupName"];
    let Value::Tagged(name) = log else {
        panic!("{log:?}")
    };
    assert_eq!(name.tag, "Sub");
    assert_eq!(name.value, "/nlb-hostname-target/${AWS::StackName}");
}

#[test]
fn a_change_of_any_setting_is_verified() {
    let template = template();
    let resources = &template["Resources"];
    let verification = &resources["Verification"]["Properties"];
    let variables = &resources["Function"]["Properties"]["Environment"]["Variables"];
    let mut settings = keys(variables);
    // Only a diagnosis reads these.
    settings.retain(|name| !["SCHEDULE_EXPRESSION", "ALARM_MINUTES"].contains(&name.as_str()));
    for name in settings {
        assert_eq!(
            verification[name.as_str()],
            variables[name.as_str()],
            "{name}"
        );
    }
    for name in [
        "Architecture",
        "PermissionsBoundaryArn",
        "RoleArn",
        "VpcSecurityGroupIds",
        "VpcSubnetIds",
    ] {
        assert_eq!(references(&verification[name]), [name]);
    }
    assert_eq!(verification["ServiceTimeout"], 60);
    assert_eq!(resources["Verification"]["Condition"], "IsVerified");
}

#[test]
fn the_topic_that_is_named_and_no_other_may_send_to_the_queue_of_the_function() {
    let template = template();
    let resources = &template["Resources"];
    for name in [
        "NotificationQueue",
        "NotificationQueuePolicy",
        "NotificationSource",
        "FailoverSubscription",
    ] {
        assert_eq!(resources[name]["Condition"], "HasFailoverTopic", "{name}");
    }
    let queue = &resources["NotificationQueue"]["Properties"];
    assert_eq!(queue["SqsManagedSseEnabled"], true);
    assert_eq!(queue["MessageRetentionPeriod"], 60);
    assert_eq!(queue["VisibilityTimeout"], 450);

    let policy = &resources["NotificationQueuePolicy"]["Properties"];
    assert_eq!(references(&policy["Queues"]), ["NotificationQueue"]);
    let statements = policy["PolicyDocument"]["Statement"].as_sequence().unwrap();
    let [statement] = &statements[..] else {
        panic!("one statement: {statements:?}")
    };
    assert_eq!(statement["Effect"], "Allow");
    assert_eq!(statement["Principal"]["Service"], "sns.amazonaws.com");
    assert_eq!(statement["Action"], "sqs:SendMessage");
    let topic = &statement["Condition"]["ArnEquals"]["aws:SourceArn"];
    assert_eq!(references(topic), ["FailoverTopicArn"]);

    let subscription = &resources["FailoverSubscription"]["Properties"];
    assert_eq!(subscription["Protocol"], "sqs");
    assert_eq!(references(&subscription["TopicArn"]), ["FailoverTopicArn"]);
    // A filter on the body drops every message that is not a JSON object.
    assert_eq!(keys(subscription), ["TopicArn", "Protocol", "Endpoint"]);
    let source = &resources["NotificationSource"]["Properties"];
    assert_eq!(source["BatchSize"], 10);
    assert_eq!(source["ScalingConfig"]["MaximumConcurrency"], 2);
    assert_eq!(
        source["FunctionResponseTypes"][0],
        "ReportBatchItemFailures"
    );
    let mut kinds = keys(resources).into_iter();
    let is_permission =
        |name: &String| resources[name.as_str()]["Type"] == "AWS::Lambda::Permission";
    assert!(
        !kinds.any(|name| is_permission(&name)),
        "the schedule's comes with it"
    );
}

/// No emulator enforces this permission.
#[test]
fn the_role_may_receive_from_the_queue() {
    let template = template();
    let policies = &template["Resources"]["Role"]["Properties"]["Policies"];
    let mut policies = policies.as_sequence().unwrap().iter();
    let conditional = policies.find(|policy| policy["Fn::If"][0] == "HasFailoverTopic");
    let receive = &conditional.unwrap()["Fn::If"][1]["PolicyDocument"]["Statement"][0];
    assert_eq!(receive["Effect"], "Allow");
    let actions: Vec<_> = receive["Action"].as_sequence().unwrap().iter().collect();
    let expected = [
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
    ];
    assert_eq!(actions, expected);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let [every_five, by_cron] = ["rate(5 minutes)", "cron(* * * * ? *)"]
        .map(|expression| ("ScheduleExpression", expression));
    let email = ("AlarmEmail", "operator@example.com");
    let topic = ("AlarmTopicArn", "arn:aws:sns:eu-west-1:123456789012:alarms");
    let minutes = ("AlarmMinutes", "17");
    let reserved = |executions| ("ReservedConcurrency", executions);
    let [polling, polling_1] = ["55", "1"].map(|seconds| ("SchedulePollSeconds", seconds));
    let events = (
        "FailoverTopicArn",
        "arn:aws:sns:eu-west-1:123456789012:redis",
    );
    let same_topic = ("FailoverTopicArn", topic.1);
    let subnets = ("VpcSubnetIds", "subnet-01234567");
    let groups = ("VpcSecurityGroupIds", "sg-01234567");
    let role = ("RoleArn", "arn:aws:iam::123456789012:role/follow");
    let boundary = (
        "PermissionsBoundaryArn",
        "arn:aws:iam::123456789012:policy/boundary",
    );
    let [no_schedule, for_two, for_four, own_topic, both, no_boundary] = [
        "AlarmsKnowNoSchedule",
        "PollingNeedsTwo",
        "NotificationsNeedFour",
        "AlarmsHaveATopicOfTheirOwn",
        "SubnetsGoWithSecurityGroups",
        "BoundaryIsForTheStacksOwnRole",
    ];
    for (given, expected) in [
        (&[][..], &[][..]),
        (&[email], &[]),
        (&[every_five], &[]),
        (&[every_five, email], &[no_schedule]),
        (&[every_five, topic], &[no_schedule]),
        (&[every_five, email, minutes], &[]),
        (&[every_five, topic, minutes], &[]),
        // The rule knows only one expression, so this one needs 6 minutes although it runs as often.
        (&[by_cron, email], &[no_schedule]),
        (&[polling, events], &[]),
        (&[reserved("1")], &[]),
        (&[reserved("1"), polling_1], &[for_two]),
        (&[reserved("2"), polling], &[]),
        (&[reserved("3"), events], &[for_four]),
        (&[reserved("1"), polling, events], &[for_two, for_four]),
        (&[reserved("4"), polling, events], &[]),
        (&[reserved("10"), polling, events], &[]),
        (&[topic, events], &[]),
        (&[topic, same_topic], &[own_topic]),
        (&[subnets], &[both]),
        (&[groups], &[both]),
        (&[subnets, groups], &[]),
        (&[role], &[]),
        (&[boundary], &[]),
        (&[role, boundary], &[no_boundary]),
    ] {
        let expected = expected.iter().copied().collect();
        let followed = [("Endpoints", "a.example.com"), ("TargetGroupArns", "arn")];
        let given = [&followed[..], given].concat();
        assert_eq!(Stack::new(&given).refusals(), expected, "{given:?}");
    }
}

#[test]
fn a_stack_follows_something_and_a_fleet_within_bounds() {
    let endpoints = ("Endpoints", "a.example.com");
    let arns = ("TargetGroupArns", "arn");
    let fleet = ("Fleet", "production");
    let cidrs = ("AllowedCidrs", "10.0.0.0/16");
    let [pairs, bounds] = ["EndpointsGoWithTargetGroups", "FleetsHaveAllowedCidrs"];
    for (given, expected) in [
        (&[][..], &[pairs][..]),
        (&[endpoints], &[pairs]),
        (&[arns], &[pairs]),
        (&[endpoints, arns], &[]),
        (&[fleet], &[bounds]),
        (&[fleet, cidrs], &[]),
        (&[fleet, cidrs, endpoints], &[pairs]),
        (&[fleet, cidrs, endpoints, arns], &[]),
    ] {
        let expected = expected.iter().copied().collect();
        assert_eq!(Stack::new(given).refusals(), expected, "{given:?}");
    }
}

/// A condition of IAM's is about the tags that a group has now. Without a fleet, no tag means anything.
#[test]
fn the_role_may_change_what_is_configured_and_what_has_the_fleets_tag() {
    let changes = |given: &[(&str, &str)]| {
        let stack = Stack::new(given);
        let role = stack.resources("AWS::IAM::Role")["Role"];
        let policies = stack.elements(&role["Policies"]).into_iter();
        let statements =
            policies.flat_map(|policy| stack.elements(&policy["PolicyDocument"]["Statement"]));
        let statements: Vec<_> = statements.collect();
        let sids = statements.iter().filter_map(|one| one["Sid"].as_str());
        let sids: BTreeSet<_> = sids.map(str::to_owned).collect();
        let mut of_fleet = statements.iter();
        let of_fleet = of_fleet.find(|one| one["Sid"] == "ChangeTheTargetGroupsOfTheFleet");
        let tag = |one: &&Value| {
            let tag = &one["Condition"]["StringEquals"];
            stack.text(&tag["aws:ResourceTag/nlb-hostname-target/fleet"])
        };
        (sids, of_fleet.map(tag))
    };
    let configured = [("Endpoints", "a.example.com"), ("TargetGroupArns", "arn")];
    let (sids, of_fleet) = changes(&configured);
    assert!(sids.contains("ChangeTheConfiguredTargetGroups") && of_fleet.is_none());
    assert!(!sids.contains("ListTheFleet"));
    let (sids, of_fleet) = changes(&[("Fleet", "production"), ("AllowedCidrs", "10.0.0.0/16")]);
    assert!(!sids.contains("ChangeTheConfiguredTargetGroups") && sids.contains("ListTheFleet"));
    assert_eq!(of_fleet.as_deref(), Some("production"));
}

#[test]
fn a_role_of_ones_own_takes_the_place_of_the_stacks_and_has_no_boundary_here() {
    let own = "arn:aws:iam::123456789012:role/follow";
    let boundary = (
        "PermissionsBoundaryArn",
        "arn:aws:iam::123456789012:policy/boundary",
    );
    let given = Stack::new(&[("RoleArn", own)]);
    let role = |stack: &Stack| {
        stack.text(&stack.resources("AWS::Serverless::Function")["Function"]["Role"])
    };
    assert_eq!(role(&given), own);
    assert_eq!(given.resources("AWS::IAM::Role").len(), 0);
    assert_eq!(role(&Stack::new(&[boundary])), "Role.Arn");
    assert_eq!(Stack::new(&[boundary]).resources("AWS::IAM::Role").len(), 1);
}

#[test]
fn a_stack_that_is_not_enabled_has_neither_a_schedule_nor_notifications() {
    for (enabled, state, is_read) in [("true", "ENABLED", "true"), ("false", "DISABLED", "false")] {
        let stack = Stack::new(&[
            ("Enabled", enabled),
            (
                "FailoverTopicArn",
                "arn:aws:sns:eu-west-1:123456789012:redis-events",
            ),
        ]);
        let functions = stack.resources("AWS::Serverless::Function");
        let schedule = &functions["Function"]["Events"]["Schedule"]["Properties"];
        assert_eq!(stack.text(&schedule["State"]), state);
        let sources = stack.resources("AWS::Lambda::EventSourceMapping");
        assert_eq!(
            stack.text(&sources["NotificationSource"]["Enabled"]),
            is_read
        );
    }
}

/// Lambda makes the network interfaces with the function's role. Only calls of the function's own code have the key.
/// <https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html>
#[test]
fn the_functions_own_code_may_not_use_its_permissions_on_network_interfaces() {
    let template = template();
    let mut statements = Vec::new();
    collect_statements(
        &template["Resources"]["Role"]["Properties"]["Policies"],
        &mut statements,
    );
    let denied: Vec<_> = statements
        .iter()
        .filter(|one| one["Effect"] == "Deny")
        .collect();
    let [denied] = &denied[..] else {
        panic!("one: {denied:?}")
    };
    assert_eq!(denied["Action"], "ec2:*");
    assert_eq!(denied["Resource"], "*");
    assert_eq!(
        denied["Condition"]["Null"]["lambda:SourceFunctionArn"],
        "false"
    );
    assert_eq!(denied["Condition"].as_mapping().unwrap().len(), 1);
}

#[test]
fn the_log_has_the_level_and_the_key_that_are_asked_for() {
    let key = "arn:aws:kms:eu-west-1:123456789012:key/0123";
    let stack = Stack::new(&[("LogLevel", "DEBUG"), ("LogKmsKeyArn", key)]);
    let function = &stack.resources("AWS::Serverless::Function")["Function"];
    assert_eq!(
        stack.text(&function["LoggingConfig"]["ApplicationLogLevel"]),
        "DEBUG"
    );
    let log = &stack.resources("AWS::Logs::LogGroup")["LogGroup"];
    assert_eq!(stack.text(&log["KmsKeyId"]), key);
    let without = Stack::new(&[]);
    let log = &without.resources("AWS::Logs::LogGroup")["LogGroup"];
    assert_eq!(without.text(&log["KmsKeyId"]), "AWS::NoValue");
}

#[test]
fn a_stale_event_is_neither_kept_nor_repeated() {
    let template = template();
    let function = &template["Resources"]["Function"]["Properties"];
    assert_eq!(function["Timeout"], 75);
    for policy in [
        &function["EventInvokeConfig"],
        &function["Events"]["Schedule"]["Properties"]["RetryPolicy"],
    ] {
        assert_eq!(policy["MaximumRetryAttempts"], 0);
        assert_eq!(policy["MaximumEventAgeInSeconds"], 60);
    }
}
