//! Who a container runs as and what it may do.

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile as ApiSeccomp};
use pontoon_container::{SeccompProfile, Security, User};

use super::ConfigError;
use crate::pod::spec::spec;

/// The user that the container's program runs as: the container's word, the pod's, the image's.
pub(crate) fn user(
    pod: &Pod,
    container: &Container,
    image_user: &str,
) -> Result<User, ConfigError> {
    let (of_pod, own) = contexts(pod, container);
    let uid = id(own.run_as_user.or(of_pod.run_as_user))?;
    let gid = id(own.run_as_group.or(of_pod.run_as_group))?;
    let mut groups = Vec::new();
    for group in of_pod.supplemental_groups.iter().flatten().copied().chain(of_pod.fs_group) {
        groups.extend(id(Some(group))?);
    }
    let image = image_user.split_once(':').map_or(image_user, |(user, _)| user);
    Ok(match (uid, gid) {
        (Some(uid), gid) => User::Ids { uid, gid: gid.unwrap_or(0), groups },
        (None, Some(gid)) => {
            let name = if image.is_empty() { "0" } else { image };
            User::Named { user: format!("{name}:{gid}"), groups }
        }
        (None, None) => User::Named { user: image_user.to_owned(), groups },
    })
}

/// Whether the pod forbids that the container's program runs as root.
pub(crate) fn must_not_be_root(pod: &Pod, container: &Container) -> bool {
    let (of_pod, own) = contexts(pod, container);
    own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false)
}

/// The container's rights.
pub(crate) fn security(pod: &Pod, container: &Container) -> Result<Security, ConfigError> {
    let (of_pod, own) = contexts(pod, container);
    let list = |list: Option<Vec<String>>| list.unwrap_or_default();
    let capabilities = own.capabilities.unwrap_or_default();
    let cap_add = list(capabilities.add);
    let privileged = own.privileged.unwrap_or(false);
    let gains = privileged
        || cap_add.iter().any(|cap| matches!(cap.as_str(), "SYS_ADMIN" | "CAP_SYS_ADMIN"));
    if own.proc_mount.as_deref().is_some_and(|kind| kind != "Default") {
        return Err(ConfigError::Unsupported("procMount other than Default"));
    }
    Ok(Security {
        privileged,
        no_new_privileges: !own.allow_privilege_escalation.unwrap_or(true) && !gains,
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        seccomp: seccomp(own.seccomp_profile.or(of_pod.seccomp_profile), privileged)?,
        cap_drop: list(capabilities.drop),
        cap_add,
    })
}

fn seccomp(profile: Option<ApiSeccomp>, privileged: bool) -> Result<SeccompProfile, ConfigError> {
    match profile.as_ref().map(|profile| profile.type_.as_str()) {
        _ if privileged => Ok(SeccompProfile::Unconfined),
        None | Some("RuntimeDefault") => Ok(SeccompProfile::Default),
        Some("Unconfined") => Ok(SeccompProfile::Unconfined),
        Some(_) => Err(ConfigError::Unsupported("a seccompProfile of type Localhost")),
    }
}

type PodContext = k8s_openapi::api::core::v1::PodSecurityContext;
type OwnContext = k8s_openapi::api::core::v1::SecurityContext;

fn contexts(pod: &Pod, container: &Container) -> (PodContext, OwnContext) {
    let of_pod = spec(pod).security_context.clone().unwrap_or_default();
    (of_pod, container.security_context.clone().unwrap_or_default())
}

fn id(id: Option<i64>) -> Result<Option<u32>, ConfigError> {
    let invalid = |id: i64| ConfigError::Invalid { what: "user or group id", text: id.to_string() };
    id.map(|id| u32::try_from(id).map_err(|_| invalid(id))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(of_pod: Value, own: Value) -> Pod {
        let container = json!({"name": "c", "securityContext": own});
        let spec = json!({"securityContext": of_pod, "containers": [container]});
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[track_caller]
    fn check_user(of_pod: Value, own: Value, image: &str, expected: User) {
        let pod = pod(of_pod, own);
        assert_eq!(user(&pod, &pod.spec.as_ref().unwrap().containers[0], image), Ok(expected));
    }

    fn named(user: &str, groups: &[u32]) -> User {
        User::Named { user: user.into(), groups: groups.to_vec() }
    }

    #[test]
    fn the_container_over_the_pod_over_the_image() {
        let ids = |uid, gid| User::Ids { uid, gid, groups: vec![] };
        check_user(json!({}), json!({}), "web", named("web", &[]));
        check_user(
            json!({"fsGroup": 7, "supplementalGroups": [5]}),
            json!({}),
            "",
            named("", &[5, 7]),
        );
        check_user(json!({"runAsUser": 1000}), json!({}), "web", ids(1000, 0));
        check_user(
            json!({"runAsUser": 1000, "runAsGroup": 2}),
            json!({"runAsUser": 3}),
            "",
            ids(3, 2),
        );
        check_user(json!({"runAsGroup": 2}), json!({}), "web:web", named("web:2", &[]));
    }

    #[test]
    fn rights() {
        let read = |own: Value| {
            let pod = pod(json!({}), own);
            security(&pod, &pod.spec.as_ref().unwrap().containers[0])
        };
        let plain = read(json!({})).unwrap();
        assert!(!plain.privileged && !plain.no_new_privileges && !plain.read_only_root);
        assert_eq!(plain.seccomp, SeccompProfile::Default);
        assert!(read(json!({"allowPrivilegeEscalation": false})).unwrap().no_new_privileges);
        let privileged = read(json!({"privileged": true})).unwrap();
        assert_eq!(privileged.seccomp, SeccompProfile::Unconfined);
        let caps = read(json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}})).unwrap();
        assert_eq!((caps.cap_add, caps.cap_drop), (vec!["NET_ADMIN".into()], vec!["ALL".into()]));
        let refused =
            read(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}));
        assert!(matches!(refused, Err(ConfigError::Unsupported(_))));
        assert!(
            user(&pod(json!({"runAsUser": -1}), json!({})), &Container::default(), "").is_err()
        );
    }
}
