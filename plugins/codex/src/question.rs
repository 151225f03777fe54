//! What Codex asks, as questions for a person, and their answers as Codex reads them.

use falconer_backend::{Choice, Event, Events, Question, QuestionAnswer, QuestionKind, spill};
use serde_json::{Map, Value, json};

use crate::incoming::{Asked, pick, text};
use crate::map::Mapper;

/// The longest prompt, by the contract.
const MAX_PROMPT: usize = 4 << 10;
/// The most questions that Codex may put into one request.
const MAX_ASKED: usize = 64;

/// An open question.
#[derive(Debug, Clone)]
pub struct Open {
    /// Codex's id of its request.
    pub request: Value,
    /// Where it was asked: the thread and its turn, for a word beside a refusal.
    pub thread: String,
    pub turn: String,
    form: Form,
    question: Question,
}

/// What is asked, and so how an answer looks.
#[derive(Debug, Clone)]
enum Form {
    /// `item/commandExecution/requestApproval`, `item/fileChange/requestApproval`
    Decision,
    /// `item/permissions/requestApproval`, with what is asked for
    Permissions(Value),
    /// `item/tool/requestUserInput`
    Questions(Vec<AgentsQuestion>),
    /// `mcpServer/elicitation/request` for a tool call, or for a page to visit
    Agreement,
    /// `mcpServer/elicitation/request` with a form
    Filled,
}

#[derive(Debug, Clone)]
struct AgentsQuestion {
    id: String,
    labels: Vec<String>,
}

/// What to do with a request of the program.
#[derive(Debug)]
pub enum Read {
    Question(Box<Open>),
    /// Nothing that a person can answer.
    Unknown,
}

/// Reads a request. `id` is to be the question's.
pub fn read(asked: &Asked, id: &str, mapper: &Mapper, events: &mut Events) -> Read {
    let params = &asked.params;
    let (form, draft) = match asked.method.as_str() {
        "item/commandExecution/requestApproval" => (Form::Decision, command(params)),
        "item/fileChange/requestApproval" => (Form::Decision, change(params, mapper)),
        "item/permissions/requestApproval" => {
            (Form::Permissions(params.get("permissions").cloned().unwrap_or_else(|| json!({}))), permissions(params))
        }
        "item/tool/requestUserInput" => match user_input(params) {
            Some((questions, draft)) => (Form::Questions(questions), draft),
            None => return Read::Unknown,
        },
        "mcpServer/elicitation/request" => match elicitation(params) {
            Some(read) => read,
            None => return Read::Unknown,
        },
        _ => return Read::Unknown,
    };
    let question = Question {
        id: id.to_owned(),
        kind: draft.kind,
        prompt: cut(draft.prompt),
        choices: draft.choices,
        multiple: false,
        details: spill::json(events, "details", &draft.details),
        form: draft.form.map(|form| form.to_string()),
        default_choice: draft.default,
        expires_ms: None,
    };
    let [thread, turn] = ["threadId", "turnId"].map(|name| text(params, name).unwrap_or_default());
    Read::Question(Box::new(Open { request: asked.id.clone(), thread, turn, form, question }))
}

/// A question before it has an id.
struct Draft {
    kind: QuestionKind,
    prompt: String,
    choices: Vec<Choice>,
    details: Value,
    form: Option<Value>,
    default: Option<String>,
}

impl Draft {
    fn approval(prompt: String, details: Value, session: bool) -> Self {
        let mut choices = vec![choice("allow", "Allow", "once, exactly as it stands")];
        if session {
            choices.push(choice("allow_session", "Allow for the session", "also when the same comes again in this session"));
        }
        choices.push(choice("deny", "Deny", "the agent goes on without; `text` tells it why"));
        Self { kind: QuestionKind::Approval, prompt, choices, details, form: None, default: Some("deny".to_owned()) }
    }
}

fn command(params: &Value) -> Draft {
    let command = text(params, "command").unwrap_or_default();
    let reason = text(params, "reason").map(|reason| format!(" ({reason})")).unwrap_or_default();
    let prompt = match (text(params, "kind").as_deref(), params.get("networkApprovalContext").filter(|context| !context.is_null())) {
        (Some("writeStdin"), _) => format!("Codex wants to type into a running command{reason}: {command}"),
        (_, Some(_)) => format!("Codex wants to reach the network{reason}: {command}"),
        _ => format!("Codex wants to run a command{reason}: {command}"),
    };
    const SHOWN: [&str; 9] = [
        "kind",
        "command",
        "cwd",
        "reason",
        "commandActions",
        "additionalPermissions",
        "networkApprovalContext",
        "environmentId",
        "itemId",
    ];
    Draft::approval(prompt, pick(params, &SHOWN), true)
}

fn change(params: &Value, mapper: &Mapper) -> Draft {
    let item = text(params, "itemId").unwrap_or_default();
    let changes = mapper.change(&item).cloned().unwrap_or_else(|| json!([]));
    let paths: Vec<String> = changes.as_array().into_iter().flatten().filter_map(|change| text(change, "path")).collect();
    let reason = text(params, "reason").map(|reason| format!(" ({reason})")).unwrap_or_default();
    let mut details = pick(params, &["reason", "grantRoot", "itemId"]);
    details["changes"] = changes;
    Draft::approval(format!("Codex wants to change files{reason}: {}", paths.join(", ")), details, true)
}

fn permissions(params: &Value) -> Draft {
    let reason = text(params, "reason").map(|reason| format!(": {reason}")).unwrap_or_default();
    Draft::approval(
        format!("Codex wants further permissions{reason}"),
        pick(params, &["permissions", "cwd", "reason", "environmentId"]),
        true,
    )
}

fn user_input(params: &Value) -> Option<(Vec<AgentsQuestion>, Draft)> {
    let asked: Vec<&Value> = params.get("questions")?.as_array()?.iter().take(MAX_ASKED).collect();
    let questions: Vec<AgentsQuestion> = asked
        .iter()
        .map(|question| AgentsQuestion {
            id: text(question, "id").unwrap_or_default(),
            labels: options(question).iter().filter_map(|option| text(option, "label")).collect(),
        })
        .collect();
    let details = json!({ "questions": asked });
    let draft = |prompt, choices, form| Draft { kind: QuestionKind::Input, prompt, choices, details, form, default: None };
    match asked.as_slice() {
        [] => None,
        [only] => {
            let choices = options(only).iter().enumerate().map(|(n, option)| Choice {
                id: format!("option-{}", n + 1),
                label: cut(text(option, "label").unwrap_or_default()),
                description: text(option, "description").map(cut),
            });
            let choices = choices.collect();
            Some((questions, draft(text(only, "question").unwrap_or_default(), choices, None)))
        }
        several => {
            let prompt = several.iter().filter_map(|question| text(question, "question")).collect::<Vec<_>>().join("\n");
            let form = form_of(several);
            Some((questions, draft(prompt, Vec::new(), Some(form))))
        }
    }
}

fn options(question: &Value) -> &[Value] {
    question.get("options").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A form with a field for each question: a text, best one of the labels.
fn form_of(questions: &[&Value]) -> Value {
    let mut fields = Map::new();
    for question in questions {
        let labels: Vec<String> = options(question).iter().filter_map(|option| text(option, "label")).collect();
        let free = question.get("isOther").and_then(Value::as_bool).unwrap_or(false) || labels.is_empty();
        let mut field = json!({ "type": "string", "title": text(question, "header"), "description": text(question, "question") });
        field[if free { "examples" } else { "enum" }] = json!(labels);
        fields.insert(text(question, "id").unwrap_or_default(), field);
    }
    json!({ "type": "object", "properties": fields, "additionalProperties": false })
}

fn elicitation(params: &Value) -> Option<(Form, Draft)> {
    let server = text(params, "serverName").unwrap_or_default();
    let message = text(params, "message").unwrap_or_default();
    let meta = params.get("_meta").filter(|meta| !meta.is_null());
    if let Some(meta) = meta.filter(|meta| text(meta, "codex_approval_kind").as_deref() == Some("mcp_tool_call")) {
        let mut details = pick(meta, &["tool_name", "tool_title", "tool_description", "tool_params"]);
        details["server"] = json!(server);
        let session = meta.get("persist").is_some_and(|persist| match persist {
            Value::Array(all) => all.iter().any(|one| one == "session"),
            one => one == "session",
        });
        return Some((Form::Agreement, Draft::approval(message, details, session)));
    }
    let deny = choice("deny", "Decline", "the server is told so");
    let prompt = format!("The agent's MCP server {server} asks: {message}");
    match text(params, "mode").as_deref() {
        Some("url") => {
            let details = pick(params, &["serverName", "message", "url", "elicitationId"]);
            let choices = vec![choice("allow", "Done", "the page was visited"), deny];
            let draft = Draft { kind: QuestionKind::Input, prompt, choices, details, form: None, default: Some("deny".to_owned()) };
            Some((Form::Agreement, draft))
        }
        Some("form" | "openai/form" | "openaiForm") => {
            let schema =
                params.get("requestedSchema").filter(|schema| schema.is_object()).cloned().unwrap_or_else(|| json!({"type": "object"}));
            let details = json!({ "serverName": server, "message": message, "requestedSchema": schema });
            let empty = schema.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty);
            let (choices, form) = if empty {
                (vec![choice("allow", "Accept", "nothing is to be filled in"), deny], None)
            } else {
                (vec![deny], Some(schema))
            };
            Some((Form::Filled, Draft { kind: QuestionKind::Input, prompt, choices, details, form, default: Some("deny".to_owned()) }))
        }
        _ => None,
    }
}

/// What an answer comes to.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// The result that Codex is given, and what the person says beside a refusal.
    Result { result: Value, word: Option<String> },
    /// Codex cannot take such an answer.
    Unsupported(&'static str),
}

impl Open {
    /// The question, to be asked.
    pub fn asked(&self) -> Event {
        Event::Asked(self.question.clone())
    }

    /// The same, to be asked once more under another id.
    pub fn again(&self, id: &str) -> Self {
        let mut again = self.clone();
        id.clone_into(&mut again.question.id);
        again
    }

    /// What a person is not asked about in this mode, in a few words.
    pub fn about(&self) -> &str {
        &self.question.prompt
    }

    /// Whether it is about a permission, and not a question of the agent or of its servers.
    pub fn is_approval(&self) -> bool {
        self.question.kind == QuestionKind::Approval
    }

    /// The answer that refuses.
    pub fn refusal(&self) -> Value {
        match &self.form {
            Form::Decision => json!({ "decision": "decline" }),
            Form::Permissions(_) => json!({ "permissions": {}, "scope": "turn" }),
            Form::Questions(_) => json!({ "answers": {} }),
            Form::Agreement | Form::Filled => json!({ "action": "decline", "content": null, "_meta": null }),
        }
    }

    /// A person's answer, as Codex reads it.
    pub fn reply(&self, answer: &QuestionAnswer) -> Reply {
        let chosen = answer.choices.first().map(String::as_str);
        let data: Option<Value> = answer.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
        if chosen == Some("deny") {
            let word = answer.text.clone().filter(|word| !word.trim().is_empty());
            return Reply::Result { result: self.refusal(), word };
        }
        let result = match &self.form {
            Form::Questions(questions) => match answers(questions, chosen, answer.text.as_deref(), data.as_ref()) {
                Some(answers) => json!({ "answers": answers }),
                None => {
                    return Reply::Unsupported(
                        "the answer says nothing to the question: give a choice, `text`, or `data` that fits the form",
                    );
                }
            },
            Form::Filled => match data {
                Some(content) if content.is_object() => json!({ "action": "accept", "content": content, "_meta": null }),
                None if chosen == Some("allow") => json!({ "action": "accept", "content": {}, "_meta": null }),
                _ => return Reply::Unsupported("the form needs `data`, an object that fits it"),
            },
            _ if answer.data.is_some() => {
                return Reply::Unsupported(
                    "codex takes no changed input, and no other `data` here: allow it as it stands, or deny it and say in `text` what to do instead",
                );
            }
            Form::Decision => match chosen {
                Some("allow") => json!({ "decision": "accept" }),
                Some("allow_session") => json!({ "decision": "acceptForSession" }),
                _ => return Reply::Unsupported("give one of the choices"),
            },
            Form::Permissions(permissions) => match chosen {
                Some("allow") => json!({ "permissions": without_nulls(permissions), "scope": "turn" }),
                Some("allow_session") => json!({ "permissions": without_nulls(permissions), "scope": "session" }),
                _ => return Reply::Unsupported("give one of the choices"),
            },
            Form::Agreement => match chosen {
                Some("allow") => json!({ "action": "accept", "content": {}, "_meta": null }),
                Some("allow_session") => json!({ "action": "accept", "content": {}, "_meta": { "persist": "session" } }),
                _ => return Reply::Unsupported("give one of the choices"),
            },
        };
        Reply::Result { result, word: None }
    }
}

/// `answers` of the agent's questions; none where there is none.
fn answers(questions: &[AgentsQuestion], chosen: Option<&str>, free: Option<&str>, data: Option<&Value>) -> Option<Value> {
    let one = |answers: Vec<String>| json!({ "answers": answers });
    let mut all = Map::new();
    if let Some(data) = data.and_then(Value::as_object) {
        for question in questions {
            if let Some(answer) = data.get(&question.id).and_then(Value::as_str) {
                all.insert(question.id.clone(), one(vec![answer.to_owned()]));
            }
        }
    } else if let [only] = questions {
        let number = chosen.and_then(|chosen| chosen.strip_prefix("option-")?.parse::<usize>().ok());
        let label = number.and_then(|number| only.labels.get(number.checked_sub(1)?).cloned());
        let said: Vec<String> = label.into_iter().chain(free.map(str::to_owned)).collect();
        if !said.is_empty() {
            all.insert(only.id.clone(), one(said));
        }
    }
    (!all.is_empty()).then_some(Value::Object(all))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().filter(|(_, field)| !field.is_null()).map(|(name, field)| (name.clone(), field.clone())).collect()
        }
        other => other.clone(),
    }
}

fn choice(id: &str, label: &str, description: &str) -> Choice {
    Choice { id: id.to_owned(), label: label.to_owned(), description: Some(description.to_owned()) }
}

fn cut(mut text: String) -> String {
    const MARK: &str = " … (cut)";
    if text.len() > MAX_PROMPT {
        text.truncate(text.floor_char_boundary(MAX_PROMPT - MARK.len()));
        text.push_str(MARK);
    }
    text
}
