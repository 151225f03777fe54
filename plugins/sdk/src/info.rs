//! What a backend says of itself, from the JSON file that ships beside it.

use serde::Deserialize;
use serde_json::Value;

use crate::{Abilities, Info};

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
    /// Reads a description: `{ title, version, description, abilities: ["resume", …], config_schema, target_schema? }`.
    /// It ships with the component (`include_str!`), so that a test of the crate finds a wrong one.
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
        assert_eq!(info.target_schema, None);
        assert!(Info::try_from_json(&text.replace("title", "titel")).is_err());
        assert!(Info::try_from_json(&text.replace("resume", "resum")).is_err());
    }
}
