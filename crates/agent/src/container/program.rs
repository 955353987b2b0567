//! What a container runs: the pod's words over the image's.

use k8s_openapi::api::core::v1::Container;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::environment::Variables;
use super::expand::expand;

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageDefaults {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `NAME=VALUE` each.
    pub environment: Vec<String>,
    pub working_dir: String,
    /// `user[:group]` by name or number; empty is root.
    pub user: String,
}

/// Program, environment and directory of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub directory: String,
}

/// Puts together what `container` runs. `command` replaces the image's entrypoint and its arguments with it, `args`
/// only the arguments.
pub(crate) fn program(
    container: &Container,
    image: &ImageDefaults,
    variables: Variables,
) -> Result<Program, ConfigError> {
    let expanded = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        let list = list.as_ref().filter(|list| !list.is_empty())?;
        Some(list.iter().map(|text| expand(text, |name| variables.get(name))).collect())
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let argv = match (command, args) {
        (Some(command), args) => [command, args.unwrap_or_default()].concat(),
        (None, Some(args)) => [image.entrypoint.clone(), args].concat(),
        (None, None) => [image.entrypoint.clone(), image.command.clone()].concat(),
    };
    if argv.is_empty() {
        return Err(ConfigError::NoCommand);
    }
    let directory = container.working_dir.clone().filter(|dir| !dir.is_empty());
    let mut environment = Variables::default();
    for pair in &image.environment {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        environment.set(name.to_owned(), value.to_owned());
    }
    for (name, value) in variables.into_list() {
        environment.set(name, value);
    }
    Ok(Program {
        argv,
        environment: environment.into_list(),
        directory: directory.unwrap_or_else(|| image.working_dir.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn argv(container: Value) -> Vec<String> {
        let image = ImageDefaults {
            entrypoint: vec!["/entry".into()],
            command: vec!["default".into()],
            environment: vec!["PATH=/bin".into(), "A=image".into(), "EMPTY".into()],
            ..ImageDefaults::default()
        };
        let mut variables = Variables::default();
        variables.set("A".into(), "pod".into());
        let container = serde_json::from_value(container).unwrap();
        let program = program(&container, &image, variables).unwrap();
        let environment: Vec<_> =
            program.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(environment, ["PATH=/bin", "A=pod", "EMPTY="]);
        program.argv
    }

    #[test]
    fn the_pod_overrides_the_image() {
        assert_eq!(argv(json!({"name": "c"})), ["/entry", "default"]);
        assert_eq!(argv(json!({"name": "c", "args": ["$(A)"]})), ["/entry", "pod"]);
        assert_eq!(argv(json!({"name": "c", "command": ["/own"]})), ["/own"]);
        assert_eq!(argv(json!({"name": "c", "command": ["/own"], "args": ["x"]})), ["/own", "x"]);
    }

    #[test]
    fn there_must_be_something_to_run() {
        let container = serde_json::from_value(json!({"name": "c"})).unwrap();
        let refused = program(&container, &ImageDefaults::default(), Variables::default());
        assert_eq!(refused, Err(ConfigError::NoCommand));
    }
}
