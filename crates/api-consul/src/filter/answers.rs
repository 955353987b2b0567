//! The shapes of Consul's answers: by which fields each of them can be filtered.

use super::Shape;
use super::Shape::{Boolean, Integer, List, Map, Struct, Text};

const TEXTS: Shape = List(&Text);
const META: Shape = Map(&Text);

/// `/v1/catalog/nodes`.
pub const NODE: Shape = Struct(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", META),
    ("Meta", META),
]);

/// `/v1/agent/services`, and the services of `/v1/catalog/node/…`.
pub const SERVICE: Shape = Struct(&[
    ("Kind", Text),
    ("ID", Text),
    ("Service", Text),
    ("Tags", TEXTS),
    ("Address", Text),
    ("TaggedAddresses", Map(&SERVICE_ADDRESS)),
    ("Meta", META),
    ("Port", Integer),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Boolean),
    ("Proxy", PROXY),
    ("Connect", CONNECT),
]);

/// `/v1/catalog/service/…`.
pub const SERVICE_NODE: Shape = Struct(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", META),
    ("NodeMeta", META),
    ("ServiceKind", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", TEXTS),
    ("ServiceAddress", Text),
    ("ServiceTaggedAddresses", Map(&SERVICE_ADDRESS)),
    ("ServiceWeights", WEIGHTS),
    ("ServiceMeta", META),
    ("ServicePort", Integer),
    ("ServiceEnableTagOverride", Boolean),
    ("ServiceProxy", PROXY),
    ("ServiceConnect", CONNECT),
]);

/// `/v1/agent/checks`, `/v1/health/node/…`, `/v1/health/checks/…` and `/v1/health/state/…`.
pub const CHECK: Shape = Struct(&[
    ("Node", Text),
    ("CheckID", Text),
    ("Name", Text),
    ("Status", Text),
    ("Notes", Text),
    ("Output", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", TEXTS),
    ("Type", Text),
]);

/// `/v1/health/service/…` and `/v1/internal/ui/services`.
pub const SERVICE_HEALTH: Shape =
    Struct(&[("Node", NODE), ("Service", SERVICE), ("Checks", List(&CHECK))]);

/// `/v1/internal/ui/nodes`.
pub const NODE_INFO: Shape = Struct(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("TaggedAddresses", META),
    ("Meta", META),
    ("Services", List(&SERVICE)),
    ("Checks", List(&CHECK)),
]);

const SERVICE_ADDRESS: Shape = Struct(&[("Address", Text), ("Port", Integer)]);
const WEIGHTS: Shape = Struct(&[("Passing", Integer), ("Warning", Integer)]);
const CONNECT: Shape = Struct(&[("Native", Boolean)]);
const MESH_GATEWAY: Shape = Struct(&[("Mode", Text)]);

const PROXY: Shape = Struct(&[
    ("DestinationServiceName", Text),
    ("DestinationServiceID", Text),
    ("LocalServiceAddress", Text),
    ("LocalServicePort", Integer),
    ("Upstreams", List(&UPSTREAM)),
    ("MeshGateway", MESH_GATEWAY),
    ("Expose", Struct(&[("Checks", Boolean), ("Paths", List(&EXPOSED_PATH))])),
]);

const UPSTREAM: Shape = Struct(&[
    ("DestinationType", Text),
    ("DestinationNamespace", Text),
    ("DestinationName", Text),
    ("Datacenter", Text),
    ("LocalBindAddress", Text),
    ("LocalBindPort", Integer),
    ("MeshGateway", MESH_GATEWAY),
]);

const EXPOSED_PATH: Shape = Struct(&[
    ("ListenerPort", Integer),
    ("Path", Text),
    ("LocalPathPort", Integer),
    ("Protocol", Text),
    ("ParsedFromCheck", Boolean),
]);
