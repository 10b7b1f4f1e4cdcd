//! The configuration file: defaults and named connections, in TOML.
//!
//! ```toml
//! [defaults]
//! timeout = 10
//!
//! [profile.build]
//! trans = "unix"
//! address = "/run/build.sock"
//! lisafs = true
//! options = "cache=remote_revalidating"
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::Deserialize;

use crate::error::{CliError, CliResult};
use crate::exit::Exit;
use crate::settings::{Layer, timeout};

/// The whole file.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Connection,
    #[serde(default)]
    profile: BTreeMap<String, Connection>,
}

/// One named connection. The keys are the flags' names.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
struct Connection {
    trans: Option<Trans>,
    address: Option<String>,
    root: Option<PathBuf>,
    rfdno: Option<i32>,
    wfdno: Option<i32>,
    lisafs: Option<bool>,
    options: Option<String>,
    aname: Option<String>,
    uname: Option<String>,
    timeout: Option<f64>,
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
    readonly: Option<bool>,
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
enum Trans {
    Fd,
    Unix,
    Tcp,
}

impl Connection {
    fn layer(&self) -> CliResult<Layer> {
        let mut layer = Layer::default();
        if let Some(options) = &self.options {
            layer.add_options(options.as_bytes());
        }
        if let Some(trans) = self.trans {
            let word = match trans {
                Trans::Fd => "fd",
                Trans::Unix => "unix",
                Trans::Tcp => "tcp",
            };
            layer.set("trans", word);
        }
        for (key, number) in [("rfdno", self.rfdno), ("wfdno", self.wfdno)] {
            if let Some(number) = number {
                layer.set(key, number.to_string());
            }
        }
        for (key, value) in [("address", &self.address), ("aname", &self.aname)] {
            if let Some(value) = value {
                layer.set(key, value.as_str());
            }
        }
        if let Some(lisafs) = self.lisafs {
            layer.set("lisafs", lisafs.to_string());
        }
        layer.root = self.root.clone();
        layer.uname = self.uname.clone().map(String::into_bytes).or(layer.uname);
        layer.timeout = self.timeout.map(timeout).transpose()?;
        layer.readonly = self.readonly.or(layer.readonly);
        layer.uid = self.uid;
        layer.gid = self.gid;
        layer.groups = self.groups.clone();
        Ok(layer)
    }
}

/// Where the file is looked for: `--config`, then `GOFER_CONFIG`, then the XDG place. The flag
/// tells whether it must be there.
pub fn location(flag: Option<&Path>) -> Option<(PathBuf, bool)> {
    if let Some(path) = flag {
        return Some((path.to_owned(), true));
    }
    if let Some(path) = std::env::var_os("GOFER_CONFIG").filter(|path| !path.is_empty()) {
        return Some((path.into(), true));
    }
    let base = etcetera::choose_base_strategy().ok()?;
    Some((base.config_dir().join("gofer/config.toml"), false))
}

/// Reads the file at `path` and gives the layer of `profile` over the file's defaults.
pub fn load(path: &Path, required: bool, profile: Option<&str>) -> CliResult<Layer> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {
            return match profile {
                None => Ok(Layer::default()),
                Some(name) => Err(CliError::new(
                    Exit::Config,
                    format!("no profile `{name}`: there is no {}", path.display()),
                )
                .hint("--config FILE or GOFER_CONFIG names another file")),
            };
        }
        Err(error) => return Err(CliError::local("read", path, &error).with_exit(Exit::Config)),
    };
    parse(&text, &path.display().to_string(), profile)
}

fn parse(text: &str, name: &str, profile: Option<&str>) -> CliResult<Layer> {
    let file: File = toml::from_str(text).map_err(|error| {
        let place = match error.span() {
            Some(span) => place(text, span.start),
            None => String::new(),
        };
        CliError::new(Exit::Config, format!("{name}:{place} {}", error.message()))
    })?;
    let within = |table: &str, layer: CliResult<Layer>| {
        layer.map_err(|error| {
            error
                .within(&format!("{name}: {table}"))
                .with_exit(Exit::Config)
        })
    };
    let defaults = within("defaults", file.defaults.layer())?;
    let Some(profile) = profile else {
        return Ok(defaults);
    };
    let Some(connection) = file.profile.get(profile) else {
        let known: Vec<&str> = file.profile.keys().map(String::as_str).collect();
        let error = CliError::new(Exit::Config, format!("no profile `{profile}` in {name}"));
        return Err(match known.is_empty() {
            true => error.hint("a profile is a table such as [profile.work]"),
            false => error.hint(format!("there is: {}", known.join(", "))),
        });
    };
    let layer = within(&format!("profile.{profile}"), connection.layer())?;
    Ok(layer.over(defaults))
}

/// `LINE:COLUMN:` of a byte offset, both from 1, columns in characters.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{line}:{column}:")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
[defaults]
timeout = 10
options = \"cache=none\"

[profile.work]
trans = \"unix\"
address = \"/run/g.sock\"
lisafs = true
options = \"ro,aname=/x\"
";

    #[test]
    fn a_profile_lies_over_the_defaults() {
        let layer = parse(FILE, "c.toml", Some("work")).unwrap();
        assert_eq!(
            layer.option_string(),
            b"address=/run/g.sock,aname=/x,cache=none,lisafs=true,trans=unix"
        );
        assert_eq!(layer.readonly, Some(true));
        assert_eq!(layer.timeout, Some(std::time::Duration::from_secs(10)));
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        let say = |text| {
            let error = parse(text, "c.toml", Some("x")).unwrap_err();
            assert_eq!(error.exit(), Exit::Config);
            error.to_string()
        };
        insta::assert_snapshot!(say("[profile.x]\n  adress = 1\n"));
        insta::assert_snapshot!(say("[profile.x]\ntrans = \"udp\"\n"));
        insta::assert_snapshot!(say("[profile.x]\nuid = \"me\"\n"));
        insta::assert_snapshot!(say("[profile.y]\nuid = 1\n"));
        insta::assert_snapshot!(say("[profile.x]\ntimeout = -1\n"));
        insta::assert_snapshot!(say("[profile.x"));
    }

    #[test]
    fn a_missing_file_matters_only_when_it_was_asked_for() {
        let nowhere = Path::new("/nonexistent/gofer.toml");
        assert_eq!(load(nowhere, false, None).unwrap(), Layer::default());
        assert_eq!(load(nowhere, true, None).unwrap_err().exit(), Exit::Config);
        assert_eq!(
            load(nowhere, false, Some("x")).unwrap_err().exit(),
            Exit::Config
        );
    }
}
