//! Evaluates the rule of a composite alarm as CloudWatch reads it. The rule has `ALARM("name")`, `OK("name")` and
//! `INSUFFICIENT_DATA("name")`, with `NOT` before `AND` before `OR`, and parentheses.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html>

use super::evaluator::State;

pub fn holds(rule: &str, state: impl Fn(&str) -> State) -> bool {
    let spaced = rule.replace('(', " ( ").replace(')', " ) ");
    let mut tokens: Vec<_> = spaced.split_whitespace().rev().collect();
    let holds = either(&mut tokens, &state);
    assert!(tokens.is_empty(), "{tokens:?} is left of {rule}");
    holds
}

fn either(tokens: &mut Vec<&str>, state: &impl Fn(&str) -> State) -> bool {
    let mut holds = both(tokens, state);
    while tokens.pop_if(|token| *token == "OR").is_some() {
        holds |= both(tokens, state);
    }
    holds
}

fn both(tokens: &mut Vec<&str>, state: &impl Fn(&str) -> State) -> bool {
    let mut holds = one(tokens, state);
    while tokens.pop_if(|token| *token == "AND").is_some() {
        holds &= one(tokens, state);
    }
    holds
}

fn one(tokens: &mut Vec<&str>, state: &impl Fn(&str) -> State) -> bool {
    let expected = match tokens.pop() {
        Some("NOT") => return !one(tokens, state),
        Some("(") => {
            let holds = either(tokens, state);
            assert_eq!(tokens.pop(), Some(")"));
            return holds;
        }
        Some("ALARM") => State::Alarm,
        Some("OK") => State::Ok,
        Some("INSUFFICIENT_DATA") => State::InsufficientData,
        other => panic!("{other:?} is no part of a rule"),
    };
    let [open, name, close] = [(); 3].map(|()| tokens.pop().expect("a name in parentheses"));
    assert_eq!([open, close], ["(", ")"]);
    state(name.trim_matches('"')) == expected
}

#[test]
fn not_binds_before_and_and_before_or() {
    let state = |name: &str| match name {
        "a" => State::Alarm,
        "o" => State::Ok,
        _ => State::InsufficientData,
    };
    for (rule, expected) in [
        (r#"ALARM("a")"#, true),
        (r#"ALARM("o")"#, false),
        (r#"INSUFFICIENT_DATA("i")"#, true),
        (r#"ALARM("a") OR ALARM("a") AND ALARM("o")"#, true),
        (r#"(ALARM("a") OR ALARM("a")) AND ALARM("o")"#, false),
        (r#"NOT ALARM("a") OR ALARM("a")"#, true),
        (r#"NOT (ALARM("a") OR ALARM("a"))"#, false),
        (r#"ALARM("a") AND NOT OK("a")"#, true),
    ] {
        assert_eq!(holds(rule, state), expected, "{rule}");
    }
}
