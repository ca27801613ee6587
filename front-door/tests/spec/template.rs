//! The template gives the function what it reads, with the same defaults and limits.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use front_door::config::Config;
use serde_yaml_ng::Value;

fn template() -> Value {
    serde_yaml_ng::from_str(include_str!("../../template.yaml")).unwrap()
}

/// Returns the variables of the function, each with the parameter that it comes from.
fn variables() -> BTreeMap<String, String> {
    let template = template();
    let function = &template["Resources"]["Function"]["Properties"];
    let variables = function["Environment"]["Variables"].as_mapping().unwrap();
    let parameter = |value: &Value| match value {
        Value::Tagged(tagged) if tagged.tag == "!Ref" => tagged.value.as_str().unwrap().to_owned(),
        Value::Tagged(tagged) if tagged.tag == "!Join" => {
            let Value::Tagged(list) = &tagged.value[1] else {
                panic!("{value:?}");
            };
            list.value.as_str().unwrap().to_owned()
        }
        another => panic!("{another:?}"),
    };
    variables
        .iter()
        .map(|(name, value)| (name.as_str().unwrap().to_owned(), parameter(value)))
        .collect()
}

/// Returns a property of a parameter as text.
fn property(parameter: &str, name: &str) -> Option<String> {
    match &template()["Parameters"][parameter][name] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        another => panic!("{parameter} {name}: {another:?}"),
    }
}

/// Parses the configuration with these variables, and what has no default.
fn parse(given: &BTreeMap<String, String>) -> Result<Config, String> {
    let required = BTreeMap::from([
        ("ENDPOINT", "cache.example.com"),
        ("AUTHENTICATION", "NONE"),
    ]);
    let lookup = |name: &str| {
        let given = given.get(name).cloned();
        given.or_else(|| required.get(name).map(|value| (*value).to_owned()))
    };
    Config::parse(lookup).map_err(|error| error.to_string())
}

#[test]
fn the_function_reads_the_variables_that_the_template_sets() {
    let read = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        read.borrow_mut().insert(name.to_owned());
        Some(match name {
            "ENDPOINT" => "cache.example.com".to_owned(),
            "AUTHENTICATION" => "SECRET".to_owned(),
            "SECRET_ARN" => "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cache".to_owned(),
            _ => String::new(),
        })
    };
    Config::parse(lookup).unwrap();
    assert_eq!(read.into_inner(), variables().into_keys().collect());
}

#[test]
fn the_defaults_of_the_template_are_those_of_the_function() {
    let defaults = variables().into_iter();
    let defaults: BTreeMap<_, _> = defaults
        .filter_map(|(variable, parameter)| Some((variable, property(&parameter, "Default")?)))
        .collect();
    assert!(defaults.len() > 10, "{defaults:?}");
    assert_eq!(parse(&defaults).unwrap(), parse(&BTreeMap::new()).unwrap());
}

#[test]
fn the_limits_of_the_template_are_those_of_the_function() {
    let mut tried = 0;
    for (variable, parameter) in variables() {
        for (bound, beyond) in [("MinValue", -1), ("MaxValue", 1)] {
            let Some(bound) = property(&parameter, bound) else {
                continue;
            };
            let number: i64 = bound.parse().unwrap();
            let with =
                |number: i64| parse(&BTreeMap::from([(variable.clone(), number.to_string())]));
            assert_eq!(with(number).err(), None);
            let refused = with(number + beyond).unwrap_err();
            assert!(refused.starts_with(&variable), "{refused}");
            tried += 1;
        }
    }
    assert_eq!(tried, 10);
}
