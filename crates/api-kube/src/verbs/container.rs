//! Which container of a pod is meant, and what is in its way.

use pontoon_model::status::Status;
use serde_json::Value;

/// The name of the container that is meant: the given one if the pod has it, or the only one.
pub(super) fn choose(pod: &Value, name: &str, given: Option<&str>) -> Result<String, Status> {
    let main = names(pod, "/spec/containers");
    let init = names(pod, "/spec/initContainers");
    let ephemeral = names(pod, "/spec/ephemeralContainers");
    if let Some(given) = given {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|known| *known == given);
        return known.then(|| given.to_owned()).ok_or_else(|| {
            Status::bad_request(format!("container {given} is not valid for pod {name}"))
        });
    }
    if let ([only], true, true) = (main.as_slice(), init.is_empty(), ephemeral.is_empty()) {
        return Ok((*only).to_owned());
    }
    // The pod may say which of its containers is the one people mean.
    let chosen = pod
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get("kubectl.kubernetes.io/default-container"))
        .and_then(Value::as_str);
    if let Some(chosen) = chosen.filter(|chosen| main.contains(chosen)) {
        return Ok(chosen.to_owned());
    }
    let mut message = format!(
        "a container name must be specified for pod {name}, choose one of: [{}]",
        main.join(" ")
    );
    if !init.is_empty() {
        message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    Err(Status::bad_request(message))
}

fn names<'p>(pod: &'p Value, pointer: &str) -> Vec<&'p str> {
    let list = pod.pointer(pointer).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|container| container.get("name").and_then(Value::as_str))
        .collect()
}

/// Checks that the container has written logs: it runs, or has run.
pub(super) fn check_has_logs(
    pod: &Value,
    name: &str,
    container: &str,
    previous: bool,
) -> Result<(), Status> {
    let refuse = |why: &str| Err(Status::bad_request(why.to_owned()));
    let Some(status) = status_of(pod, container) else {
        return refuse(&format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: ContainerCreating"
        ));
    };
    let state = |pointer: &str| status.pointer(pointer).filter(|state| state.is_object());
    let ended_before = state("/lastState/terminated").is_some();
    if previous {
        return match ended_before {
            true => Ok(()),
            false => refuse(&format!(
                "previous terminated container \"{container}\" in pod \"{name}\" not found"
            )),
        };
    }
    if state("/state/running").is_some() || state("/state/terminated").is_some() || ended_before {
        return Ok(());
    }
    let reason = status.pointer("/state/waiting/reason").and_then(Value::as_str);
    refuse(&match reason {
        Some("ErrImagePull") => format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: image can't be pulled"
        ),
        Some("ImagePullBackOff") => format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: trying and failing to pull image"
        ),
        Some(reason) => {
            format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}")
        }
        None => {
            format!("container \"{container}\" in pod \"{name}\" is waiting to start - no logs yet")
        }
    })
}

fn status_of<'p>(pod: &'p Value, container: &str) -> Option<&'p Value> {
    ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
        .iter()
        .filter_map(|list| pod.pointer(&format!("/status/{list}")).and_then(Value::as_array))
        .flatten()
        .find(|status| status.get("name").and_then(Value::as_str) == Some(container))
}

/// The node of a pod, if it has one yet.
pub(super) fn node(pod: &Value) -> Option<&str> {
    pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|node| !node.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(result: Result<impl std::fmt::Debug, Status>) -> String {
        let status = result.unwrap_err();
        assert_eq!(status.code, 400);
        status.message
    }

    #[test]
    fn the_container_is_chosen_as_kubernetes_does() {
        let one = json!({"spec": {"containers": [{"name": "a"}]}});
        assert_eq!(choose(&one, "p", None).unwrap(), "a");
        assert_eq!(refused(choose(&one, "p", Some("z"))), "container z is not valid for pod p");
        let many = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(choose(&many, "p", Some("i")).unwrap(), "i");
        assert_eq!(
            refused(choose(&many, "p", None)),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        let mut told = many;
        told["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] = "b".into();
        assert_eq!(choose(&told, "p", None).unwrap(), "b");
    }

    fn check(status: Value, previous: bool, wanted: Option<&str>) {
        let pod = json!({"status": {"containerStatuses": [status]}});
        let result = check_has_logs(&pod, "p", "c", previous);
        assert_eq!(result.err().map(|status| status.message).as_deref(), wanted);
    }

    #[test]
    fn why_there_are_no_logs() {
        check(json!({"name": "c", "state": {"running": {}}}), false, None);
        check(json!({"name": "c", "state": {"terminated": {}}}), false, None);
        check(
            json!({"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff"}}}),
            false,
            Some(
                "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image",
            ),
        );
        check(
            json!({"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}),
            false,
            Some("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
        );
        let backing_off = json!({"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1}}});
        check(backing_off.clone(), false, None);
        check(backing_off, true, None);
        check(
            json!({"name": "c", "state": {"running": {}}}),
            true,
            Some("previous terminated container \"c\" in pod \"p\" not found"),
        );
        check(
            json!({"name": "other"}),
            false,
            Some("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
        );
    }
}
