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
        ("CACHE_NAME", "cache"),
        ("READER_USER", "reader"),
        ("WRITER_USER", "writer"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ]);
    let lookup = |name: &str| {
        let given = given.get(name).filter(|value| !value.is_empty()).cloned();
        given.or_else(|| required.get(name).map(|value| (*value).to_owned()))
    };
    Config::parse(lookup).map_err(|error| error.to_string())
}

#[test]
fn the_function_reads_the_variables_that_the_template_sets() {
    let read = RefCell::new(BTreeSet::new());
    let secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cache";
    for authentication in ["SECRET", "IAM"] {
        let lookup = |name: &str| {
            // Lambda sets these by itself.
            if !name.starts_with("AWS_") {
                read.borrow_mut().insert(name.to_owned());
            }
            let value = match name {
                "ENDPOINT" => "cache.example.com",
                "AUTHENTICATION" => authentication,
                "SECRET_ARN" => secret,
                "CACHE_NAME" | "READER_USER" | "WRITER_USER" => "name",
                name if name.starts_with("AWS_") => "value",
                _ => "",
            };
            Some(value.to_owned())
        };
        Config::parse(lookup).unwrap();
    }
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

/// The example hands its parameters on, so what it allows is what the template allows.
#[test]
fn the_example_has_the_parameters_of_the_template() {
    let example = include_str!("../../../examples/front-door.yaml");
    let example: Value = serde_yaml_ng::from_str(example).unwrap();
    let template = template();
    let given = &example["Resources"]["FrontDoor"]["Properties"]["Parameters"];
    let mut compared = 0;
    for (name, parameter) in example["Parameters"].as_mapping().unwrap() {
        let same = &template["Parameters"][name];
        if same.is_null() || name == "VpcId" {
            continue;
        }
        for property in ["Default", "AllowedValues", "AllowedPattern", "NoEcho"] {
            assert_eq!(parameter[property], same[property], "{name:?} {property}");
        }
        assert!(!given[name].is_null(), "{name:?}");
        compared += 1;
    }
    assert_eq!(compared, 9);
    for (name, parameter) in template["Parameters"].as_mapping().unwrap() {
        let is_given = !given[name].is_null();
        assert!(is_given || !parameter["Default"].is_null(), "{name:?}");
    }
}

/// The schema of the contract, with places for the directives of what reads and of what writes.
const SCHEMA: &str = "
type Query {
  read(commands: [[String!]!]!, atomic: Boolean = false, arguments: Encoding = TEXT, replies: Encoding = TEXT): Result! {readers}
}
type Mutation {
  execute(commands: [[String!]!]!, atomic: Boolean = false, arguments: Encoding = TEXT, replies: Encoding = TEXT): Result! {writers}
}
enum Encoding { TEXT BASE64 }
type Result {readers} { replies: [Reply!]! error: Error }
type Reply {readers} { value: String error: Error lossy: Boolean! }
type Error {readers} { code: String! message: String! }
";

/// Returns the value of a condition about one parameter.
fn condition(name: &str, parameter: &str, value: &str) -> bool {
    fn holds(condition: &Value, parameter: &str, value: &str) -> bool {
        let Value::Tagged(tagged) = condition else {
            panic!("{condition:?}");
        };
        match tagged.tag.to_string().as_str() {
            "!Not" => !holds(&tagged.value[0], parameter, value),
            "!Equals" => {
                let Value::Tagged(reference) = &tagged.value[0] else {
                    panic!("{condition:?}");
                };
                assert_eq!(reference.value.as_str(), Some(parameter));
                tagged.value[1].as_str() == Some(value)
            }
            another => panic!("{another}"),
        }
    }
    holds(&template()["Conditions"][name], parameter, value)
}

/// Returns what an `!If` about the access of API keys chooses.
fn chosen(choice: &Value, access: &str) -> Value {
    match choice {
        Value::Tagged(tagged) if tagged.tag == "!If" => {
            let name = tagged.value[0].as_str().unwrap();
            let index = if condition(name, "ApiKeyAccess", access) {
                1
            } else {
                2
            };
            tagged.value[index].clone()
        }
        another => panic!("{another:?}"),
    }
}

/// No emulator enforces the directives. A client with a key uses a field, or reads a type, that has `@aws_api_key`.
/// <https://docs.aws.amazon.com/appsync/latest/devguide/security-authz.html#using-additional-authorization-modes>
#[test]
fn an_api_key_reaches_the_fields_and_types_that_its_access_needs() {
    let (signed, both) = ("@aws_iam", "@aws_iam @aws_api_key");
    let resources = &template()["Resources"];
    let definition = &resources["GraphQlSchema"]["Properties"]["Definition"]["Fn::Sub"];
    for (access, readers, writers) in [
        ("none", signed, signed),
        ("read", both, signed),
        ("write", both, both),
    ] {
        let directives = |name: &str| chosen(&definition[1][name], access);
        let schema = definition[0]
            .as_str()
            .unwrap()
            .replace("${Readers}", directives("Readers").as_str().unwrap())
            .replace("${Writers}", directives("Writers").as_str().unwrap());
        let expected = SCHEMA
            .replace("{readers}", readers)
            .replace("{writers}", writers);
        assert_eq!(schema.trim(), expected.trim(), "{access}");
        let api = &resources["GraphQlApi"]["Properties"];
        let introspection = chosen(&api["IntrospectionConfig"], access);
        let is_key = access != "none";
        assert_eq!(introspection == "DISABLED", is_key);
        assert_eq!(condition("HasApiKey", "ApiKeyAccess", access), is_key);
    }
}

#[test]
fn the_graphql_api_is_bounded_and_signed_by_default() {
    let template = template();
    let api = &template["Resources"]["GraphQlApi"]["Properties"];
    assert_eq!(api["AuthenticationType"], "AWS_IAM");
    assert_eq!(
        (&api["QueryDepthLimit"], &api["ResolverCountLimit"]),
        (&5.into(), &10.into())
    );
    let provider = &api["AdditionalAuthenticationProviders"]["Fn::If"];
    assert_eq!(provider[0], "HasApiKey");
    assert_eq!(provider[1][0]["AuthenticationType"], "API_KEY");
    assert_eq!(template["Resources"]["ApiKey"]["Condition"], "HasApiKey");
    let outputs = serde_yaml_ng::to_string(&template["Outputs"]).unwrap();
    assert!(!outputs.contains("ApiKey."), "{outputs}");
}
