//! What a backend says of itself, from the JSON file that ships beside it.

use serde::Deserialize;
use serde_json::Value;

use crate::{Abilities, Info, ProgramInfo};

/// The shape of `backend.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    title: String,
    version: String,
    description: String,
    #[serde(default)]
    abilities: Vec<Ability>,
    config_schema: Value,
    #[serde(default)]
    target_schema: Option<Value>,
    #[serde(default)]
    programs: Vec<Program>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    name: String,
    #[serde(default)]
    version_args: Vec<String>,
    tested_from: String,
    tested_to: String,
}

impl From<Program> for ProgramInfo {
    fn from(program: Program) -> Self {
        Self { name: program.name, version_args: program.version_args, tested_from: program.tested_from, tested_to: program.tested_to }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ability {
    Resume,
    ForkSession,
    Steer,
    Ask,
    StructuredOutput,
    Recover,
    Targets,
    Images,
    Files,
}

impl Ability {
    const fn flag(self) -> Abilities {
        match self {
            Self::Resume => Abilities::RESUME,
            Self::ForkSession => Abilities::FORK_SESSION,
            Self::Steer => Abilities::STEER,
            Self::Ask => Abilities::ASK,
            Self::StructuredOutput => Abilities::STRUCTURED_OUTPUT,
            Self::Recover => Abilities::RECOVER,
            Self::Targets => Abilities::TARGETS,
            Self::Images => Abilities::IMAGES,
            Self::Files => Abilities::FILES,
        }
    }
}

impl Info {
    /// Reads a description: `{ title, version, description, abilities: ["resume", …], config_schema, target_schema?, programs? }`,
    /// where a program is `{ name, version_args: ["--version"], tested_from: "1.2.0", tested_to: "1.9.3" }`. It ships with the component (`include_str!`), so that a test of the crate finds a wrong one.
    ///
    /// # Errors
    /// The text is no JSON, lacks a field, or has one that is not known.
    pub fn try_from_json(text: &str) -> Result<Self, serde_json::Error> {
        let description: Description = serde_json::from_str(text)?;
        Ok(Self {
            title: description.title,
            version: description.version,
            description: description.description,
            abilities: description.abilities.iter().fold(Abilities::empty(), |all, one| all | one.flag()),
            config_schema: description.config_schema.to_string(),
            target_schema: description.target_schema.map(|schema| schema.to_string()),
            programs: description.programs.into_iter().map(Into::into).collect(),
        })
    }

    /// [`Info::try_from_json`] for the one text that was compiled in.
    ///
    /// # Panics
    /// When the text is wrong: the host then lists the backend as failed, with the reason in its message.
    #[must_use]
    #[expect(clippy::panic, reason = "describe cannot fail by the contract; a trap is what the host shows as the reason")]
    pub fn from_json(text: &str) -> Self {
        Self::try_from_json(text).unwrap_or_else(|error| panic!("backend.json is wrong: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_and_an_unknown_field_refused() {
        let text =
            r#"{"title":"t","version":"1","description":"d","abilities":["resume","fork_session"],"config_schema":{"type":"object"}}"#;
        let info = Info::try_from_json(text).unwrap();
        assert_eq!(info.abilities, Abilities::RESUME | Abilities::FORK_SESSION);
        assert_eq!(info.config_schema, r#"{"type":"object"}"#);
        assert_eq!((info.target_schema, info.programs.len()), (None, 0));
        assert!(Info::try_from_json(&text.replace("title", "titel")).is_err());
        assert!(Info::try_from_json(&text.replace("resume", "resum")).is_err());
    }

    #[test]
    fn the_programs_that_it_was_tested_with_are_read() {
        let text = r#"{"title":"t","version":"1","description":"d","config_schema":{},
            "programs":[{"name":"tool","version_args":["--version"],"tested_from":"1.2","tested_to":"1.10"}]}"#;
        let info = Info::try_from_json(text).unwrap();
        let program = &info.programs[0];
        assert_eq!((program.name.as_str(), program.version_args.as_slice()), ("tool", ["--version".to_owned()].as_slice()));
        assert_eq!((program.tested_from.as_str(), program.tested_to.as_str()), ("1.2", "1.10"));
        assert!(Info::try_from_json(&text.replace("tested_to", "until")).is_err());
    }
}
