//! Evaluates an alarm's recent data points as CloudWatch does.
//!
//! CloudWatch retrieves more data points than it needs, and calls them the evaluation range. The newest real ones
//! decide. If there are fewer than the evaluation periods, the rest counts as the alarm treats missing data.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html>

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok,
    Alarm,
    InsufficientData,
}

#[derive(Clone, Copy, Debug)]
pub enum MissingData {
    Missing,
    Ignore,
    Breaching,
    NotBreaching,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub evaluation_periods: usize,
    pub datapoints_to_alarm: usize,
    pub missing_data: MissingData,
}

impl Rule {
    /// Returns the alarm's new state. `range` is the evaluation range, oldest first. It says whether each data point
    /// breaches the threshold, or `None` if there is no data point.
    pub fn evaluate(&self, range: &[Option<bool>], current: State) -> State {
        let newest_first = range.iter().rev().filter_map(|data_point| *data_point);
        let real: Vec<bool> = newest_first.take(self.evaluation_periods).collect();
        let breaching = real.iter().filter(|is_breaching| **is_breaching).count();
        let is_good_seen = breaching < real.len();
        let short = self.evaluation_periods - real.len();
        let filled = match self.missing_data {
            MissingData::Breaching => breaching + short,
            MissingData::NotBreaching => breaching,
            _ if short == 0 || is_good_seen => breaching,
            MissingData::Ignore => return current,
            MissingData::Missing if breaching == 0 => return State::InsufficientData,
            MissingData::Missing if self.is_premature(range) => return current,
            MissingData::Missing => return State::Alarm,
        };
        if filled >= self.datapoints_to_alarm {
            State::Alarm
        } else {
            State::Ok
        }
    }

    /// True if the oldest data point is too young for an alarm. The next one may be good, so nothing is decided.
    fn is_premature(&self, range: &[Option<bool>]) -> bool {
        let oldest = range.iter().position(Option::is_some).unwrap();
        range.len() - oldest < self.datapoints_to_alarm
    }
}

/// Reads data points as the documentation writes them: `0` is good, `X` is breaching and `-` is missing.
fn data_points(text: &str) -> Vec<Option<bool>> {
    let data_point = |word| match word {
        "0" => Some(false),
        "X" => Some(true),
        "-" => None,
        _ => panic!("{word} is no data point"),
    };
    text.split(' ').map(data_point).collect()
}

/// The data points of a row, and the states with missing data as missing, ignored, breaching and not breaching. `None`
/// is the state that the alarm had before.
type Row = (&'static str, [Option<State>; 4]);

const ALARM: Option<State> = Some(State::Alarm);
const OK: Option<State> = Some(State::Ok);
const INSUFFICIENT_DATA: Option<State> = Some(State::InsufficientData);

fn assert_rows(evaluation_periods: usize, datapoints_to_alarm: usize, rows: &[Row]) {
    let treatments = [
        MissingData::Missing,
        MissingData::Ignore,
        MissingData::Breaching,
        MissingData::NotBreaching,
    ];
    for (text, expected) in rows {
        for (missing_data, expected) in treatments.into_iter().zip(expected) {
            let rule = Rule {
                evaluation_periods,
                datapoints_to_alarm,
                missing_data,
            };
            for before in [State::Ok, State::Alarm, State::InsufficientData] {
                let state = rule.evaluate(&data_points(text), before);
                assert_eq!(state, expected.unwrap_or(before), "{text} {rule:?}");
            }
        }
    }
}

#[test]
fn three_of_three_is_evaluated_as_the_documentation_says() {
    assert_rows(
        3,
        3,
        &[
            ("0 - X - X", [OK, OK, OK, OK]),
            ("- - - - 0", [OK, OK, OK, OK]),
            ("0 - - - -", [OK, OK, OK, OK]),
            ("- - - - -", [INSUFFICIENT_DATA, None, ALARM, OK]),
            ("0 X X - X", [ALARM, ALARM, ALARM, ALARM]),
            ("- - X - -", [ALARM, None, ALARM, OK]),
        ],
    );
}

#[test]
fn two_of_three_is_evaluated_as_the_documentation_says() {
    assert_rows(
        3,
        2,
        &[
            ("0 - X - X", [ALARM, ALARM, ALARM, ALARM]),
            ("0 0 X 0 X", [ALARM, ALARM, ALARM, ALARM]),
            ("0 - X - -", [OK, OK, ALARM, OK]),
            ("- - - - 0", [OK, OK, ALARM, OK]),
            ("- - - X -", [ALARM, None, ALARM, OK]),
        ],
    );
}

#[test]
fn a_lone_breach_is_no_alarm_before_it_is_old_enough() {
    for text in ["- - - - X", "- - - X -"] {
        let rule = Rule {
            evaluation_periods: 3,
            datapoints_to_alarm: 3,
            missing_data: MissingData::Missing,
        };
        let state = rule.evaluate(&data_points(text), State::Ok);
        assert_eq!(state, State::Ok, "{text}");
    }
}
