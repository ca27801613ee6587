//! Evaluates the template with parameters: which of its resources exist, and what their properties come to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::str::FromStr;

use serde_yaml_ng::Value;

pub struct Stack {
    template: Value,
    given: BTreeMap<String, String>,
}

impl Stack {
    pub fn new(given: &[(&str, &str)]) -> Self {
        let template = include_str!("../../template.yaml");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            template: serde_yaml_ng::from_str(template).unwrap(),
            given: given.iter().map(owned).collect(),
        }
    }

    /// Returns the resources of a type that exist, each with its properties.
    pub fn resources(&self, kind: &str) -> BTreeMap<&str, &Value> {
        let resources = self.template["Resources"].as_mapping().unwrap();
        let exists = |resource: &Value| match resource["Condition"].as_str() {
            Some(condition) => self.holds(&self.template["Conditions"][condition]),
            None => true,
        };
        resources
            .iter()
            .filter(|(_, resource)| resource["Type"] == kind && exists(resource))
            .map(|(name, resource)| (name.as_str().unwrap(), &resource["Properties"]))
            .collect()
    }

    /// Returns the rules that refuse these parameters.
    pub fn refusals(&self) -> BTreeSet<&str> {
        let rules = self.template["Rules"].as_mapping().unwrap();
        let refuses = |rule: &Value| {
            let applies = rule["RuleCondition"].is_null() || self.holds(&rule["RuleCondition"]);
            let mut assertions = rule["Assertions"].as_sequence().unwrap().iter();
            applies && !assertions.all(|assertion| self.holds(&assertion["Assert"]))
        };
        rules
            .iter()
            .filter(|(_, rule)| refuses(rule))
            .map(|(name, _)| name.as_str().unwrap())
            .collect()
    }

    /// Returns the elements of a list that are there: an element may have a condition.
    pub fn elements<'a>(&'a self, list: &'a Value) -> Vec<&'a Value> {
        let chosen = |element: &'a Value| match &element["Fn::If"] {
            Value::Null => Some(element),
            choice => {
                let condition = choice[0].as_str().unwrap();
                let is_met = self.holds(&self.template["Conditions"][condition]);
                is_met.then_some(&choice[1])
            }
        };
        list.as_sequence()
            .unwrap()
            .iter()
            .filter_map(chosen)
            .collect()
    }

    /// Evaluates a property whose value is one text, number or function. A reference to a resource becomes its name.
    pub fn text(&self, value: &Value) -> String {
        if let Value::String(text) = value {
            return text.clone();
        }
        match value {
            Value::Number(number) => return number.to_string(),
            Value::Bool(flag) => return flag.to_string(),
            _ => (),
        }
        let (function, argument) = function(value);
        match function.as_str() {
            "Ref" => self.reference(argument.as_str().unwrap()),
            "GetAtt" => argument.as_str().unwrap().to_owned(),
            "If" => {
                let condition = argument[0].as_str().unwrap();
                let is_met = self.holds(&self.template["Conditions"][condition]);
                self.text(&argument[if is_met { 1 } else { 2 }])
            }
            "FindInMap" => {
                let [map, first, second] = [0, 1, 2].map(|index| self.text(&argument[index]));
                let map = &self.template["Mappings"][map.as_str()];
                self.text(&map[first.as_str()][second.as_str()])
            }
            "Join" => self.list(&argument[1]).join(argument[0].as_str().unwrap()),
            "Sub" => self.substitute(argument),
            _ => panic!("{function} is unknown"),
        }
    }

    fn list(&self, value: &Value) -> Vec<String> {
        let (function, argument) = function(value);
        let (delimiter, text) = match function.as_str() {
            "Ref" => (",", self.text(value)),
            "Split" => (argument[0].as_str().unwrap(), self.text(&argument[1])),
            _ => panic!("{function} is unknown"),
        };
        text.split(delimiter).map(str::to_owned).collect()
    }

    fn substitute(&self, argument: &Value) -> String {
        let text = argument.as_str().or(argument[0].as_str()).unwrap();
        let mut parts = text.split("${");
        let mut result = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap();
            let local = argument.get(1).and_then(|locals| locals.get(name));
            result += &local.map_or_else(|| self.reference(name), |value| self.text(value));
            result += rest;
        }
        result
    }

    pub fn number<N: FromStr<Err: Debug>>(&self, value: &Value) -> N {
        self.text(value).parse().unwrap()
    }

    fn reference(&self, name: &str) -> String {
        let default = &self.template["Parameters"][name]["Default"];
        match self.given.get(name) {
            Some(value) => value.clone(),
            None if default.is_null() => name.to_owned(),
            None => self.text(default),
        }
    }

    fn holds(&self, condition: &Value) -> bool {
        let (function, argument) = function(condition);
        let all: &[Value] = argument.as_sequence().map_or(&[], Vec::as_slice);
        match function.as_str() {
            "Condition" => self.holds(&self.template["Conditions"][argument.as_str().unwrap()]),
            "Not" => !self.holds(&all[0]),
            "And" => all.iter().all(|condition| self.holds(condition)),
            "Or" => all.iter().any(|condition| self.holds(condition)),
            "Equals" => self.text(&all[0]) == self.text(&all[1]),
            "Contains" => {
                let text = self.text(&all[1]);
                let mut list = all[0].as_sequence().unwrap().iter();
                list.any(|element| self.text(element) == text)
            }
            _ => panic!("{function} is unknown"),
        }
    }
}

/// Returns the name and the argument of a function. `!Not [...]` and `Fn::Not: [...]` are alike.
fn function(value: &Value) -> (String, &Value) {
    match value {
        Value::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            (tag.trim_start_matches('!').to_owned(), &tagged.value)
        }
        Value::Mapping(mapping) => {
            let (name, argument) = mapping.iter().next().unwrap();
            let name = name.as_str().unwrap().trim_start_matches("Fn::");
            (name.to_owned(), argument)
        }
        _ => panic!("{value:?} is no function"),
    }
}
