//! The table of tools: what each is called, what an agent reads about it, and what it runs.
//!
//! Owns the translation of arguments and of problems. Does not own what a tool does.

use super::arguments::{Backlinks, BuildContext, Conflicts, Delete, Edit, List, Move, Read, Recent, Search, Write};
use super::problem::{Kind, Problem};
use super::vault::Vault;
use super::{knowledge, listing, notes};
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use rmcp::schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

type Run = Box<dyn Fn(&Vault, JsonObject) -> Result<Value, Problem> + Send + Sync>;

/// What a tool may do to notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    None,
    /// It changes them, and loses nothing that was not seen.
    Changes,
    /// It takes some away.
    Removes,
}

/// One tool.
pub(super) struct Entry {
    /// As clients see it.
    pub(super) tool: Tool,
    effect: Effect,
    run: Run,
}

impl Entry {
    fn new<A: DeserializeOwned + JsonSchema + 'static>(
        (name, effect): (&'static str, Effect),
        description: &'static str,
        run: fn(&Vault, &A) -> Result<Value, Problem>,
    ) -> Entry {
        let annotations = ToolAnnotations::new()
            .read_only(effect == Effect::None)
            .destructive(effect == Effect::Removes)
            .open_world(false);
        let mut schema = (*schema_for_type::<A>()).clone();
        for noise in ["$schema", "title", "description"] {
            schema.remove(noise);
        }
        Entry {
            tool: Tool::new(name, description, schema).with_annotations(annotations),
            effect,
            run: Box::new(move |vault, arguments| {
                let arguments = serde_json::from_value(Value::Object(arguments)).map_err(|error| {
                    let what_to_do = format!("Call {name} again with arguments as `tools/list` describes them");
                    Problem::new(Kind::BadArguments, name, error.to_string(), what_to_do)
                })?;
                run(vault, &arguments)
            }),
        }
    }

    /// Does it.
    pub(super) fn run(&self, vault: &Vault, arguments: JsonObject) -> Result<Value, Problem> {
        (self.run)(vault, arguments)
    }
}

/// All tools, or those that change nothing.
pub(super) fn tools(read_only: bool) -> Vec<Entry> {
    let mut all = asking();
    all.extend(changing());
    all.retain(|entry| !read_only || entry.effect == Effect::None);
    all
}

fn asking() -> Vec<Entry> {
    vec![
        Entry::new::<Search>(
            ("search", Effect::None),
            "Finds notes by their words, best first, with snippets. Sees everything written before the call; \"complete\" is \
             false while notes of the bucket are still being indexed; \"from\" says whether an index that machines share answered, too.",
            knowledge::search,
        ),
        Entry::new::<Read>(
            ("read", Effect::None),
            "Reads a note: its text and its version. Long notes come in parts: next_offset_bytes says where the next one begins.",
            notes::read,
        ),
        Entry::new::<List>(
            ("list", Effect::None),
            "Lists what a folder holds, by name.",
            listing::list,
        ),
        Entry::new::<Backlinks>(
            ("backlinks", Effect::None),
            "Lists the links that lead to a note, with the lines they stand in.",
            knowledge::backlinks,
        ),
        Entry::new::<BuildContext>(
            ("build_context", Effect::None),
            "Shows what a note is (type, tags, properties), the facts in it (`- [category] fact #tag (context)`), its links with their \
             types (`- type [[Target]]`), and the notes around it along links in both directions, nearest first.",
            knowledge::build_context,
        ),
        Entry::new::<Recent>(
            ("recent", Effect::None),
            "Lists the notes that were changed last, newest first.",
            knowledge::recent,
        ),
        Entry::new::<Conflicts>(
            ("conflicts", Effect::None),
            "Lists notes that two machines changed at once and that did not merge: the note, the copy beside it, and what to do.",
            knowledge::conflicts,
        ),
    ]
}

fn changing() -> Vec<Entry> {
    vec![
        Entry::new::<Write>(
            ("write", Effect::Changes),
            "Makes a new note, or replaces all of one whose version is given. A note that somebody else has changed is never \
             overwritten.",
            notes::write,
        ),
        Entry::new::<Edit>(
            ("edit", Effect::Changes),
            "Changes a part of a note: replaces old_text by new_text, or adds new_text at the end. Fails if the note does not hold \
             old_text, or is not the version given.",
            notes::edit,
        ),
        Entry::new::<Move>(
            ("move", Effect::Changes),
            "Moves or renames a note or a folder; never over something.",
            notes::rename,
        ),
        Entry::new::<Delete>(
            ("delete", Effect::Removes),
            "Deletes a note, or an empty folder. Deleted notes can be brought back for some time with `notefs trash restore`.",
            notes::delete,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_argument_is_described_and_bounded_as_it_is_held() {
        let all = tools(false);
        assert_eq!(all.len(), 11);
        for entry in &all {
            let schema = Value::Object((*entry.tool.input_schema).clone());
            assert_eq!(schema["type"], "object", "{}", entry.tool.name);
            for (name, property) in schema["properties"].as_object().unwrap() {
                assert!(
                    property["description"].is_string(),
                    "{}.{name}: {property}",
                    entry.tool.name
                );
            }
        }
        let of = |name: &str| {
            let entry = all.iter().find(|entry| entry.tool.name == name).unwrap();
            Value::Object((*entry.tool.input_schema).clone())
        };
        assert_eq!(
            of("search")["properties"]["limit"]["maximum"],
            super::super::arguments::ROWS_MAX
        );
        let read = &of("read")["properties"]["limit_bytes"]["maximum"];
        assert_eq!(*read, json!(super::super::arguments::READ_BYTES_MAX));
    }

    #[test]
    fn only_reading_tools_are_offered_for_reading() {
        let names: Vec<_> = tools(true).iter().map(|entry| entry.tool.name.clone()).collect();
        assert!(names.contains(&"read".into()) && names.len() == 7, "{names:?}");
        assert!(
            !names
                .iter()
                .any(|name| ["write", "edit", "move", "delete"].contains(&&**name))
        );
    }

    #[test]
    fn strange_arguments_are_a_problem_with_a_way_on() {
        let vault = Vault {
            mountpoint: "/nowhere".into(),
        };
        let all = tools(false);
        let read = all.iter().find(|entry| entry.tool.name == "read").unwrap();
        for arguments in [json!({}), json!({"path": 3}), json!({"path": "a.md", "paths": []})] {
            let arguments = arguments.as_object().unwrap().clone();
            let problem = read.run(&vault, arguments).unwrap_err();
            assert_eq!((problem.kind, problem.retryable), (Kind::BadArguments, false));
        }
        let arguments = json!({"path": "a.md"}).as_object().unwrap().clone();
        let problem = read.run(&vault, arguments).unwrap_err();
        assert_eq!((problem.kind, problem.retryable), (Kind::MountGone, true));
    }
}
