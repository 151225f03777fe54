//! `falconer backends`: which kinds of jobs there are.

use std::process::ExitCode;

use super::Globals;
use super::client;
use super::exit::{Exit, end};
use super::follow::closed;
use super::show;
use crate::fault::Fault;
use crate::run::view::{BackendPage, BackendView};

/// List the backends: what they are, whether they can be used, and why not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this one, with the schema of its config.
    pub backend: Option<String>,
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    end(list(globals, args).await)
}

async fn list(globals: &Globals, args: Args) -> Result<Exit, Fault> {
    let client = client::connect(globals).await?;
    let request = match &args.backend {
        Some(backend) => serde_json::json!({ "backend": backend }),
        None => serde_json::json!({}),
    };
    let page = client.call::<_, BackendPage>("list_backends", &request).await;
    client.close().await;
    let page = page?;
    let text = if globals.json {
        page.backends.iter().map(|backend| format!("{}\n", serde_json::to_string(backend).unwrap_or_default())).collect()
    } else if args.backend.is_some() {
        page.backends.iter().map(whole).collect()
    } else {
        let head = ["NAME", "STATE", "VERSION", "SOURCE", "DESCRIPTION"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(page.backends.iter().map(row)).collect();
        show::table(&rows)
    };
    show::print(&text).map_err(|error| closed(&error))?;
    Ok(Exit::Completed)
}

fn row(backend: &BackendView) -> Vec<String> {
    let what = match &backend.reason {
        Some(reason) => format!("{}: {}", reason.code, reason.message),
        None => backend.description.clone().unwrap_or_default(),
    };
    let what = what.lines().next().unwrap_or_default();
    let version = backend.version.clone().unwrap_or_else(|| "-".to_owned());
    [backend.name.clone(), backend.state.clone(), version, backend.source.clone(), what.to_owned()].map(|cell| show::inert(&cell)).to_vec()
}

fn whole(backend: &BackendView) -> String {
    let or = |text: &Option<String>| show::inert(text.as_deref().unwrap_or("-"));
    let mut text = format!("{} ({})\n", show::inert(&backend.name), backend.state);
    if let Some(reason) = &backend.reason {
        text.push_str(&format!("reason        {} ({})\n", show::inert(&reason.message), reason.code));
        if let Some(hint) = &reason.hint {
            text.push_str(&format!("              {}\n", show::inert(hint)));
        }
    }
    text.push_str(&format!("title         {}\nversion       {}\n", or(&backend.title), or(&backend.version)));
    text.push_str(&format!("source        {}\ndigest        {}\n", show::inert(&backend.source), or(&backend.digest)));
    text.push_str(&format!("capabilities  {}\n\n{}\n", backend.capabilities.join(", "), or(&backend.description)));
    for program in &backend.programs {
        text.push_str(&format!(
            "\nprogram {}: tested with {} to {}\n",
            show::inert(&program.name),
            show::inert(&program.tested_from),
            show::inert(&program.tested_to)
        ));
    }
    if let Some(schema) = &backend.config_schema {
        text.push_str(&format!("\nconfig:\n{}\n", serde_json::to_string_pretty(schema).unwrap_or_default()));
    }
    text
}
