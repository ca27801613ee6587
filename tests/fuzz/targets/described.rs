//! Reads an answer to `DescribeTargetHealth` with another reader than the SDK's. This one is
//! lenient: it finds every target that any reader could find.

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::Event;

use super::load_balancing::is_new;
use super::world::{NEW, OLD};

/// The content of some answers.
#[derive(Default)]
pub struct Described {
    text: String,
    members: Vec<Member>,
}

/// The texts of the elements of a member, with their names.
#[derive(Default)]
struct Member(Vec<(String, String)>);

impl Described {
    /// Reads one more answer.
    pub fn read(&mut self, body: &[u8]) {
        let body = String::from_utf8_lossy(body);
        self.text.push_str(&body);
        let mut reader = Reader::from_str(&body);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        let mut member = Member::default();
        while let Ok(event) = reader.read_event() {
            match event {
                Event::Eof => break,
                Event::Start(start) if start.local_name().as_ref() == "member" => {
                    self.members.push(std::mem::take(&mut member));
                }
                Event::Start(start) => member.begin(start.local_name().as_ref()),
                Event::End(_) => member.begin(""),
                Event::Text(text) => member.add(&text),
                Event::CData(text) => member.add(&text),
                Event::GeneralRef(name) => {
                    let character = name.resolve_char_ref().ok().flatten();
                    member.add(&character.map(String::from).unwrap_or_default());
                }
                _ => (),
            }
        }
        self.members.push(member);
    }

    /// Adds the stand-in's own answer.
    pub fn read_truth(&mut self) {
        self.text.push_str(&format!("{OLD} {NEW} 6379"));
    }

    /// Returns true if anything says that this target is there.
    pub fn names(&self, id: &str, port: Option<u16>) -> bool {
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        let text = unescape(&self.text).unwrap_or_else(|_| self.text.as_str().into());
        text.contains(id) && text.contains(&port)
    }

    /// Returns true if the new target is described as one that is not draining.
    pub fn has_live(&self) -> bool {
        self.members.iter().any(|member| {
            let has = |name: &str, is: &dyn Fn(&str) -> bool| {
                let mut texts = member.0.iter();
                texts.any(|(element, text)| element == name && is(text.trim()))
            };
            has("Id", &is_new) && has("State", &|state| state != "draining")
        })
    }
}

impl Member {
    fn begin(&mut self, element: &str) {
        self.0.push((element.to_owned(), String::new()));
    }

    fn add(&mut self, text: &str) {
        if let Some((_, before)) = self.0.last_mut() {
            before.push_str(text);
        }
    }
}
