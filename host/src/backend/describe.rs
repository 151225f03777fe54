//! What a backend says of itself: as JSON (embedded with a bundled one, cached for a plugin), or asked of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::code::Code;
use super::engine::Engine;
use super::instance::{Instance, Spec};
use super::limits::{Account, THROW_AWAY_CPU};
use super::stdio::one_line;
use super::version::Version;
use crate::capability::{Host, News, RunLog};
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};

/// The contract: names.
const NAME_BYTES: usize = 128;
/// The contract: messages for people.
const MESSAGE_BYTES: usize = 4 << 10;
/// The contract: JSON texts.
const JSON_BYTES: usize = 1 << 20;
/// The contract: programs of a description, and arguments of one.
const PROGRAMS: usize = 16;
const VERSION_ARGS: usize = 8;

/// What a backend says of itself, parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// For people.
    pub title: String,
    /// Its own version.
    pub version: String,
    /// What it does.
    pub description: String,
    /// What it can.
    pub abilities: wit::Abilities,
    /// JSON Schema of its config.
    pub config_schema: Value,
    /// JSON Schema of a target's settings.
    pub target_schema: Option<Value>,
    /// The programs that it relies on, and the versions that it was tested with.
    pub programs: Vec<TestedProgram>,
}

/// A program that a backend relies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestedProgram {
    /// The name of its grant.
    pub name: String,
    /// What makes it print its version and end.
    #[serde(default)]
    pub version_args: Vec<String>,
    /// The oldest version tested.
    pub tested_from: Version,
    /// The newest version tested, included.
    pub tested_to: Version,
}

/// The abilities by their names in JSON.
const ABILITIES: [(&str, wit::Abilities); 9] = [
    ("resume", wit::Abilities::RESUME),
    ("fork_session", wit::Abilities::FORK_SESSION),
    ("steer", wit::Abilities::STEER),
    ("ask", wit::Abilities::ASK),
    ("structured_output", wit::Abilities::STRUCTURED_OUTPUT),
    ("recover", wit::Abilities::RECOVER),
    ("targets", wit::Abilities::TARGETS),
    ("images", wit::Abilities::IMAGES),
    ("files", wit::Abilities::FILES),
];

/// The form of a `backend.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    version: String,
    description: String,
    #[serde(default)]
    abilities: Vec<String>,
    config_schema: Value,
    #[serde(default)]
    target_schema: Option<Value>,
    #[serde(default)]
    programs: Vec<TestedProgram>,
}

impl Description {
    /// Reads a `backend.json`.
    pub fn from_json(text: &str) -> Result<Self, Fault> {
        let written: Written = serde_json::from_str(text).map_err(|error| wrong(format!("its description is not understood: {error}")))?;
        let mut abilities = wit::Abilities::empty();
        for name in &written.abilities {
            match ABILITIES.iter().find(|(known, _)| known == name) {
                Some((_, ability)) => abilities |= *ability,
                None => return Err(wrong(format!("its description has an ability `{}` that is not known", one_line(name, 64)))),
            }
        }
        Self {
            title: written.title,
            version: written.version,
            description: written.description,
            abilities,
            config_schema: written.config_schema,
            target_schema: written.target_schema,
            programs: written.programs,
        }
        .checked()
    }

    /// Writes a `backend.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let written = Written {
            title: self.title.clone(),
            version: self.version.clone(),
            description: self.description.clone(),
            abilities: self.ability_names().into_iter().map(str::to_owned).collect(),
            config_schema: self.config_schema.clone(),
            target_schema: self.target_schema.clone(),
            programs: self.programs.clone(),
        };
        // Strings and values cannot fail to be written.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// The abilities by name, e.g. `fork_session`, in the contract's order.
    #[must_use]
    pub fn ability_names(&self) -> Vec<&'static str> {
        ABILITIES.iter().filter(|(_, ability)| self.abilities.contains(*ability)).map(|(name, _)| *name).collect()
    }

    fn from_info(info: wit::Info) -> Result<Self, Fault> {
        let json = |what: &str, text: &str| {
            if text.len() > JSON_BYTES {
                return Err(too_large(what, JSON_BYTES));
            }
            serde_json::from_str(text).map_err(|error| wrong(format!("the {what} that `describe` gives is no JSON: {error}")))
        };
        Self {
            config_schema: json("config-schema", &info.config_schema)?,
            target_schema: info.target_schema.as_deref().map(|text| json("target-schema", text)).transpose()?,
            title: info.title,
            version: info.version,
            description: info.description,
            abilities: info.abilities,
            programs: info.programs.into_iter().map(tested).collect::<Result<_, _>>()?,
        }
        .checked()
    }

    /// Within the contract's limits, and without control characters: it is shown to people and to models.
    fn checked(mut self) -> Result<Self, Fault> {
        for (what, text, most) in [
            ("title", &mut self.title, NAME_BYTES),
            ("version", &mut self.version, NAME_BYTES),
            ("description", &mut self.description, MESSAGE_BYTES),
        ] {
            if text.len() > most {
                return Err(too_large(what, most));
            }
            *text = one_line(text, most);
        }
        if self.title.is_empty() {
            return Err(wrong("its description has no title".into()));
        }
        if self.programs.len() > PROGRAMS {
            return Err(too_large("list of programs", PROGRAMS));
        }
        for program in &self.programs {
            if program.name.is_empty() || program.name.len() > NAME_BYTES || program.name != one_line(&program.name, NAME_BYTES) {
                return Err(wrong("its description names a program that is none".into()));
            }
            if program.version_args.len() > VERSION_ARGS
                || program.version_args.iter().any(|arg| arg.len() > NAME_BYTES || arg.contains('\0'))
            {
                return Err(wrong(format!("the version-args of `{}` in its description are over their limits", program.name)));
            }
        }
        Ok(self)
    }
}

fn tested(program: wit::ProgramInfo) -> Result<TestedProgram, Fault> {
    let version =
        |text: &str| text.parse().map_err(|why| wrong(format!("the tested versions of `{}`: {why}", one_line(&program.name, 64))));
    Ok(TestedProgram {
        tested_from: version(&program.tested_from)?,
        tested_to: version(&program.tested_to)?,
        name: program.name,
        version_args: program.version_args,
    })
}

fn wrong(message: String) -> Fault {
    Fault::new(code::CONTRACT_VIOLATION, message)
}

fn too_large(what: &str, most: usize) -> Fault {
    Fault::new(code::VALUE_TOO_LARGE, format!("the {what} of its description is longer than {most}"))
}

/// Asks `describe` in a throw-away instance, every import refused.
pub(super) async fn ask(engine: &Engine, name: &str, code: &std::sync::Arc<Code>) -> Result<Description, Fault> {
    let instance = throw_away(engine, name, code, Host::refusing(None)).await?;
    Description::from_info(instance.describe().await?)
}

/// Asks `plan` in a throw-away instance, every import but `log` refused.
pub(super) async fn plan(
    engine: &Engine,
    name: &str,
    code: &std::sync::Arc<Code>,
    job: wit::Job,
) -> Result<Result<wit::Draft, wit::Failure>, Fault> {
    let instance = throw_away(engine, name, code, Host::refusing(Some(RunLog::none()))).await?;
    instance.plan(job).await
}

async fn throw_away(engine: &Engine, name: &str, code: &std::sync::Arc<Code>, host: Host) -> Result<Instance, Fault> {
    Instance::with(Spec {
        engine: engine.clone(),
        backend: name.to_owned(),
        pre: code.prepared(engine).await?,
        host,
        news: News::default(),
        log: RunLog::none(),
        memory: engine.memory(),
        account: Account::new(THROW_AWAY_CPU, THROW_AWAY_CPU * 2),
    })
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_read_as_it_was_written() {
        let text = json!({
            "title": "A\u{7} backend", "version": "1.2.3", "description": "does\nthings",
            "abilities": ["resume", "fork_session"], "config_schema": { "type": "object" }, "target_schema": null,
            "programs": [{ "name": "tool", "version_args": ["--version"], "tested_from": "1.9", "tested_to": "1.10.2" }],
        });
        let description = Description::from_json(&text.to_string()).unwrap();
        assert_eq!((description.title.as_str(), description.description.as_str()), ("A backend", "does things"));
        assert_eq!(description.ability_names(), ["resume", "fork_session"]);
        assert_eq!(Description::from_json(&description.to_json()).unwrap(), description);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |field: &str, value: Value| {
            let mut text = json!({ "title": "t", "version": "1", "description": "d", "abilities": [], "config_schema": {} });
            text[field] = value;
            Description::from_json(&text.to_string()).unwrap_err()
        };
        assert!(with("abilities", json!(["fly"])).message.contains("`fly`"));
        assert!(with("colour", json!("red")).message.contains("colour"));
        assert_eq!(with("title", json!("x".repeat(129))).code, code::VALUE_TOO_LARGE);
        let program = |name: &str, to: &str| json!([{ "name": name, "version_args": ["-V"], "tested_from": "1", "tested_to": to }]);
        assert!(with("programs", program("tool", "newest")).message.contains("`newest`"));
        assert!(with("programs", program("", "1")).message.contains("program"));
    }
}
