//! The environment variables that tell a container where the Services of its namespace are.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::assignments::Assignments;

/// The variables for a pod of `namespace`: those of the cluster's own API always, the namespace's if `links`.
pub(crate) fn service_variables(
    assignments: &Assignments,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for ((of, name), service) in &assignments.services {
        let is_api = of == "default" && name == "kubernetes";
        if is_api || (links && of == namespace) {
            variables.extend(of_service(name, service));
        }
    }
    variables
}

fn of_service(name: &str, service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.clone().unwrap_or_default();
    let Some(Ok(ip)) = spec.cluster_ip.as_deref().map(str::parse::<Ipv4Addr>) else {
        return Vec::new();
    };
    let ports = spec.ports.unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let prefix = variable_name(name);
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_string()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in &ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let key = format!("{prefix}_SERVICE_PORT_{}", variable_name(name));
            variables.push((key, port.port.to_string()));
        }
    }
    variables.push((format!("{prefix}_PORT"), url(ip, first).0));
    for port in &ports {
        let (url, protocol) = url(ip, port);
        let key = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        variables.push((format!("{key}_PROTO"), protocol));
        variables.push((format!("{key}_PORT"), port.port.to_string()));
        variables.push((format!("{key}_ADDR"), ip.to_string()));
        variables.push((key, url));
    }
    variables
}

fn url(ip: Ipv4Addr, port: &ServicePort) -> (String, String) {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
    (format!("{protocol}://{ip}:{}", port.port), protocol)
}

fn variable_name(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn the_names_that_programs_know() {
        let mut assignments = Assignments::default();
        let web = json!({"metadata": {}, "spec": {"clusterIP": "10.96.0.7",
            "ports": [{"name": "http", "port": 80}]}});
        let headless =
            json!({"metadata": {}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}});
        for (name, body) in [("my-web", web.clone()), ("headless", headless), ("kubernetes", web)] {
            let service = Arc::new(serde_json::from_value(body).unwrap());
            assignments.services.insert(("default".into(), name.into()), service);
        }
        let get = |namespace: &str, links| -> Vec<String> {
            let all = service_variables(&assignments, namespace, links);
            all.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
        };
        let text = get("default", true);
        for expected in [
            "MY_WEB_SERVICE_HOST=10.96.0.7",
            "MY_WEB_SERVICE_PORT=80",
            "MY_WEB_SERVICE_PORT_HTTP=80",
            "MY_WEB_PORT=tcp://10.96.0.7:80",
            "MY_WEB_PORT_80_TCP_ADDR=10.96.0.7",
        ] {
            assert!(text.iter().any(|line| line == expected), "{expected} not in {text:?}");
        }
        assert!(!text.iter().any(|line| line.starts_with("HEADLESS")));
        let other = get("other", true);
        assert!(other.iter().all(|line| line.starts_with("KUBERNETES_")) && !other.is_empty());
    }
}
