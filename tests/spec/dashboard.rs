//! The dashboard is one page for the operator. It has the function's own metrics, Lambda's metrics and the groups'
//! targets.

use serde_json::{Value, json};
use stand_in::dns::Answer;
use stand_in::world::{ARN, OTHER_ARN, World};

use crate::reading::log;
use crate::stack::Stack;

const FAILED: &str = "Failed or held back, no healthy target";
const HAPPENED: &str = "What happened: moves, changes, what is held back, errors";

fn widgets(target_groups: &str) -> Vec<Value> {
    let stack = Stack::new(&[("Dashboard", "true"), ("TargetGroupArns", target_groups)]);
    let dashboards = stack.resources("AWS::CloudWatch::Dashboard");
    let body = stack.text(&dashboards["MainDashboard"]["DashboardBody"]);
    let body: Value = serde_json::from_str(&body).expect("the body is JSON");
    body["widgets"].as_array().unwrap().clone()
}

/// Returns the search for the healthy targets.
fn search(target_groups: &str) -> String {
    let widgets = widgets(target_groups);
    let is_search = |widget: &&Value| widget["properties"]["title"] == "Healthy targets";
    let widget = widgets.iter().find(is_search).unwrap();
    let expression = &widget["properties"]["metrics"][0][0]["expression"];
    expression.as_str().unwrap().to_owned()
}

#[test]
fn there_is_a_dashboard_only_for_who_asks() {
    let none = Stack::new(&[])
        .resources("AWS::CloudWatch::Dashboard")
        .len();
    assert_eq!(none, 0);
}

#[test]
fn the_dashboard_shows_failovers_failures_targets_and_the_function() {
    let shown = widgets(ARN).into_iter().map(|widget| {
        let properties = &widget["properties"];
        assert_eq!(properties["region"], "AWS::Region");
        json!([properties["title"], properties["metrics"]])
    });
    let own = |name| json!([["NlbHostnameTarget", name, "FunctionName", "Function"]]);
    let of_lambda = |name| ["AWS/Lambda", name, "FunctionName", "Function"];
    let duration = |statistic| {
        let [namespace, name, dimension, value] = of_lambda("Duration");
        json!([namespace, name, dimension, value, {"stat": statistic}])
    };
    let [failed, unhealthy] = ["ReconcileFailure", "NoHealthyTarget"].map(own);
    let expected = [
        json!(["Failovers", own("Failover")]),
        json!([FAILED, [failed[0], unhealthy[0]]]),
        json!([HAPPENED, null]),
        json!(["Healthy targets", [[{"expression": search(ARN)}]]]),
        json!(["Duration", [duration("Maximum"), duration("Average")]]),
        json!([
            "Errors and invocations",
            [of_lambda("Errors"), of_lambda("Invocations")]
        ]),
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn whether_any_reconcile_of_a_minute_failed_over_or_failed_is_shown() {
    let widgets = widgets(ARN);
    let statistics = ["Failovers", FAILED].map(|title| {
        let mut properties = widgets.iter().map(|widget| &widget["properties"]);
        let shown = properties.find(|properties| properties["title"] == title);
        shown.unwrap()["stat"].clone()
    });
    // Two sandboxes that make the same change at the same moment both count it.
    assert_eq!(statistics, ["Maximum", "Maximum"]);
}

/// Returns the query of the dashboard, and the saved query.
fn queries() -> [String; 2] {
    let widgets = widgets(ARN);
    let mut properties = widgets.iter().map(|widget| &widget["properties"]);
    let shown = properties.find(|properties| properties["title"] == HAPPENED);
    let stack = Stack::new(&[]);
    let saved = &stack.resources("AWS::Logs::QueryDefinition")["LastFailover"];
    let shown = shown.unwrap()["query"].as_str().unwrap();
    [shown.to_owned(), stack.text(&saved["QueryString"])]
}

#[test]
fn the_saved_query_is_the_dashboards_and_of_the_functions_log() {
    let [shown, saved] = queries();
    assert_eq!(shown, format!("SOURCE 'LogGroup' | {saved}"));
    let stack = Stack::new(&[]);
    let of_the_log = &stack.resources("AWS::Logs::QueryDefinition")["LastFailover"];
    let groups = of_the_log["LogGroupNames"].as_sequence().unwrap().iter();
    let groups: Vec<_> = groups.map(|group| stack.text(group)).collect();
    assert_eq!(groups, ["LogGroup"]);
}

/// Logs Insights itself is not available here, so the test reads its `filter`, in the two forms that it has.
#[tokio::test(start_paused = true)]
async fn the_query_finds_what_was_changed_held_back_or_failed_and_nothing_else() {
    let [_, query] = queries();
    let filter = query.split(" | ").next().unwrap();
    let forms = r"^filter level in \['WARN', 'ERROR'\] or level = 'INFO' and message like /(.*)/$";
    let forms = fancy_regex::Regex::new(forms).unwrap();
    let pattern = forms.captures(filter).unwrap().expect(filter);
    let pattern = fancy_regex::Regex::new(&pattern[1]).unwrap();
    let finds = |line: &Value| match line["level"].as_str().unwrap() {
        "WARN" | "ERROR" => true,
        "INFO" => pattern.is_match(line["message"].as_str().unwrap()).unwrap(),
        _ => false,
    };
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    world.point("10.0.2.9");
    sandbox.schedule().await.outcome.unwrap();
    world.point("10.0.1.7");
    sandbox.schedule().await.outcome.unwrap();
    world.answer(Answer::NxDomain);
    sandbox.schedule().await.outcome.unwrap_err();
    let found: Vec<Value> = log(&sandbox).into_iter().filter(finds).collect();
    let found = found.iter().map(|line| {
        let message = line["message"].as_str().unwrap();
        message.split([' ', ':']).next().unwrap()
    });
    let failover = ["registering", "deregistering", "reconciled"];
    let fail_back = [&["held", "held"][..], &failover].concat();
    let expected = [&failover[..], &fail_back, &["reconcile"]].concat();
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn the_healthy_targets_are_those_of_the_configured_groups() {
    let search = search(&format!("{ARN},{OTHER_ARN}"));
    let begin =
        "SEARCH('{AWS/NetworkELB,LoadBalancer,TargetGroup} MetricName=\"HealthyHostCount\" (\"";
    let terms = search.strip_prefix(begin).expect(&search);
    let terms = terms.strip_suffix("\")', 'Minimum', 60)").expect(&search);
    let groups: Vec<_> = terms
        .split("\" OR \"")
        .filter(|term| term.contains('/'))
        .collect();
    let dimension = |arn: &'static str| arn.rsplit(':').next().unwrap();
    assert_eq!(groups, [ARN, OTHER_ARN].map(dimension));
}

#[test]
fn a_search_has_room_for_six_groups() {
    let name = "a".repeat(32);
    let arn = format!(
        "arn:aws:elasticloadbalancing:ap-southeast-1:123456789012:targetgroup/{name}/0123456789abcdef"
    );
    let search = search(&vec![arn; 6].join(","));
    assert!(search.len() <= 1024, "{} characters", search.len());
}
