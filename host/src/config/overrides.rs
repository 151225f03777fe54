//! What stands beside the file: arguments and the environment. The one place where configuration reads either.

use camino::{Utf8Path, Utf8PathBuf};

use super::error::ConfigError;

/// What was given beside the file. Arguments of the command line are put over what [`Overrides::from_env`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`, else `$FALCONER_CONFIG`. A file that is named must be there.
    pub config: Option<Utf8PathBuf>,
    /// `--data-dir`, else `$FALCONER_DATA_DIR`.
    pub data_dir: Option<Utf8PathBuf>,
    /// `$FALCONER_PLUGINS`
    pub plugins: Option<Utf8PathBuf>,
    /// `$HOME`. Default directories come from it alone, not from the XDG variables, so that all clients of one person meet in
    /// one daemon.
    pub home: Option<Utf8PathBuf>,
}

impl Overrides {
    /// Reads `FALCONER_CONFIG`, `FALCONER_DATA_DIR`, `FALCONER_PLUGINS` and `HOME`. A variable that is empty is not set.
    pub fn from_env() -> Result<Self, ConfigError> {
        let read = |name: &str| match std::env::var_os(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => Utf8PathBuf::from_os_string(value)
                .map(Some)
                .map_err(|_| ConfigError::whole(None, format!("${name} is not UTF-8"), format!("set {name} to a path in UTF-8"))),
        };
        Ok(Self {
            config: read("FALCONER_CONFIG")?,
            data_dir: read("FALCONER_DATA_DIR")?,
            plugins: read("FALCONER_PLUGINS")?,
            home: read("HOME")?,
        })
    }

    /// Everything below this home, nothing from the environment: for tests and for hosts of their own.
    #[must_use]
    pub fn at_home(home: impl Into<Utf8PathBuf>) -> Self {
        Self { home: Some(home.into()), ..Self::default() }
    }

    /// The home directory, which must be absolute.
    pub(super) fn home(&self) -> Result<&Utf8Path, ConfigError> {
        match self.home.as_deref() {
            Some(home) if home.is_absolute() => Ok(home),
            Some(home) => Err(ConfigError::whole(None, format!("HOME is `{home}`, which is not absolute"), "set HOME to an absolute path")),
            None => Err(ConfigError::whole(None, "HOME is not set", "set HOME; the configuration and the data directory are found by it")),
        }
    }

    /// The file to read, and whether it was named, so that it must be there.
    pub(super) fn file(&self) -> Result<(Utf8PathBuf, bool), ConfigError> {
        match &self.config {
            Some(file) => Ok((absolute(file)?, true)),
            None => Ok((default_file(self.home()?), false)),
        }
    }
}

/// Where the configuration is when nothing else is said.
pub(super) fn default_file(home: &Utf8Path) -> Utf8PathBuf {
    home.join(".config/falconer/falconer.toml")
}

/// Where the data are when nothing else is said.
pub(super) fn default_data_dir(home: &Utf8Path) -> Utf8PathBuf {
    home.join(".local/share/falconer")
}

/// A path that was given as an argument or in the environment: from the working directory of this process.
pub(super) fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, ConfigError> {
    let failed = || ConfigError::whole(None, format!("`{path}` cannot be made absolute"), "give an absolute path");
    let absolute = std::path::absolute(path).map_err(|_| failed())?;
    Utf8PathBuf::from_path_buf(absolute).map_err(|_| failed())
}

/// A path as the file says it: `~` is the home directory, and what is not absolute is taken from the file's own directory.
pub(super) fn expand(text: &str, home: &Utf8Path, base: &Utf8Path) -> Result<Utf8PathBuf, (String, String)> {
    let path = if text.is_empty() {
        return Err(("a path is empty".into(), "write an absolute path, or one that begins with `~/`".into()));
    } else if text.contains('\0') {
        return Err(("a path holds a NUL".into(), "take it out".into()));
    } else if text == "~" {
        home.to_owned()
    } else if let Some(rest) = text.strip_prefix("~/") {
        home.join(rest.trim_start_matches('/'))
    } else if text.starts_with('~') {
        return Err((format!("`{text}`: only the home directory of this user has a short form"), "write `~/…`, or the whole path".into()));
    } else {
        base.join(text)
    };
    // Written in one way (no `.`, no doubled or trailing slash); `..` stays, for it means what the file system says.
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_expanded_from_home_and_from_the_file() {
        let (home, base) = (Utf8Path::new("/home/u"), Utf8Path::new("/etc/falconer"));
        for (text, path) in [
            ("~", "/home/u"),
            ("~/src/", "/home/u/src"),
            ("~//etc", "/home/u/etc"),
            ("/opt/./x//y", "/opt/x/y"),
            ("work", "/etc/falconer/work"),
            ("./work", "/etc/falconer/work"),
            ("../x", "/etc/falconer/../x"),
        ] {
            assert_eq!(expand(text, home, base).unwrap(), path, "{text}");
        }
        for text in ["", "~other/src", "a\0b"] {
            assert!(expand(text, home, base).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_environment_is_read_in_one_place() {
        let found = Overrides::from_env().unwrap();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(Utf8PathBuf::from);
        assert_eq!((found.home, found.config), (set("HOME"), set("FALCONER_CONFIG")));
        assert_eq!((found.data_dir, found.plugins), (set("FALCONER_DATA_DIR"), set("FALCONER_PLUGINS")));
    }

    #[test]
    fn the_default_places_come_from_home_alone() {
        let overrides = Overrides::at_home("/home/u");
        assert_eq!(overrides.file().unwrap(), ("/home/u/.config/falconer/falconer.toml".into(), false));
        assert!(Overrides::default().file().unwrap_err().message.contains("HOME is not set"));
        assert!(Overrides::at_home("here").file().unwrap_err().message.contains("not absolute"));
        let named = Overrides { config: Some("/x/falconer.toml".into()), ..Overrides::default() };
        assert_eq!(named.file().unwrap(), ("/x/falconer.toml".into(), true));
    }
}
