//! Writes the schemas of the kinds that the API serves, one definition a line, as `k8s-openapi` has them.

use std::collections::BTreeMap;
use std::{fs, io};

use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authn, authorization::v1 as authz,
    autoscaling::v1 as autoscaling, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, policy::v1 as policy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::Value;

macro_rules! register {
    ($schemas:expr; $($kind:ty),* $(,)?) => { $($schemas.subschema_for::<$kind>();)* };
}

fn main() -> io::Result<()> {
    let mut schemas = SchemaGenerator::new(SchemaSettings::draft07());
    register!(schemas;
        core::Namespace, core::Node,
        core::Pod, core::Service,
        core::Endpoints, core::ConfigMap,
        core::Secret, core::ServiceAccount,
        core::Event, core::Binding,
        apps::Deployment, apps::ReplicaSet,
        apps::DaemonSet, apps::ControllerRevision,
        coordination::Lease,
        discovery::EndpointSlice,
        policy::Eviction, autoscaling::Scale, meta::Status, meta::ListMeta, meta::DeleteOptions,
        authn::SelfSubjectReview, authz::SelfSubjectAccessReview, authz::SelfSubjectRulesReview,
        authz::SubjectAccessReview, authz::LocalSubjectAccessReview,
    );
    let sorted: BTreeMap<_, _> = schemas.take_definitions(true).into_iter().collect();
    let lines: Vec<String> = sorted
        .into_iter()
        .map(|(name, schema)| Ok(format!("{}:{}", Value::from(name), serde_json::to_string(&schema)?)))
        .collect::<Result<_, serde_json::Error>>()?;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/openapi/definitions.json");
    fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../src/openapi"))?;
    fs::write(path, format!("{{\n{}\n}}\n", lines.join(",\n")))
}
