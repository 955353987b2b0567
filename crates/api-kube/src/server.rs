//! [`ApiServer`]: takes a request with a proved identity, finds out what it means, asks whether it is
//! allowed, and has it answered.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use pontoon_model::status::Status;
use pontoon_objects::{ListOptions, Objects};
use tokio_util::sync::CancellationToken;

use crate::accept::{self, Form};
use crate::authorize::{self, Attributes, Decision};
use crate::body::Body;
use crate::build_info::BuildInfo;
use crate::call::{self, Call};
use crate::content::{self, RequestBody};
use crate::discovery;
use crate::identity::Identity;
use crate::in_flight::{InFlight, Limits, Sort};
use crate::node_proxy::NodeProxy;
use crate::openapi::OpenApi;
use crate::path::{self, Route, Target};
use crate::query::Query;
use crate::respond;
use crate::review::Review;
use crate::{node_restriction, verbs};

/// A request that is not meant to last is answered in this time, or with 504.
const DEADLINE: Duration = Duration::from_secs(60);

/// The Kubernetes API over the cluster's objects. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

/// What every request may need.
pub(crate) struct Shared {
    pub objects: Objects,
    pub nodes: Arc<dyn NodeProxy>,
    pub shutdown: CancellationToken,
    build: BuildInfo,
    in_flight: Arc<InFlight>,
    openapi: OpenApi,
}

impl ApiServer {
    /// Serves these objects, and reaches nodes by `nodes`. When `shutdown` is cancelled, watches, followed
    /// logs and exec sessions end, so that connections can be closed in order.
    pub fn new(
        objects: Objects,
        nodes: Arc<dyn NodeProxy>,
        build: BuildInfo,
        shutdown: CancellationToken,
    ) -> ApiServer {
        ApiServer::with_limits(objects, nodes, build, shutdown, Limits::default())
    }

    /// [`ApiServer::new`] with other bounds for each identity.
    pub fn with_limits(
        objects: Objects,
        nodes: Arc<dyn NodeProxy>,
        build: BuildInfo,
        shutdown: CancellationToken,
        limits: Limits,
    ) -> ApiServer {
        let openapi = OpenApi::new(&build.git_version());
        let in_flight = InFlight::new(limits);
        let shared = Shared { objects, nodes, shutdown, build, in_flight, openapi };
        ApiServer { shared: Arc::new(shared) }
    }

    /// Answers one request of an identity that the connection has proved. Never fails: what goes wrong is
    /// told in the response.
    pub fn handle<B>(
        &self,
        identity: Identity,
        request: Request<B>,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let server = self.clone();
        let request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
        async move {
            server.answer(identity, request).await.unwrap_or_else(|status| respond::status(&status))
        }
    }

    async fn answer(
        &self,
        identity: Identity,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, Status> {
        let route = path::parse(request.uri().path());
        if let Some(Route::Alive) = route {
            return Ok(respond::text(StatusCode::OK, "ok"));
        }
        if let Some(Route::Ready) = route {
            return Ok(self.readiness().await);
        }
        if identity.is_anonymous() {
            return Err(Status::unauthorized());
        }
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        match route {
            None => Err(Status::no_such_path()),
            Some(Route::Objects(target)) => self.objects(identity, target, query, request).await,
            Some(Route::Review { review, namespace }) => {
                self.review(&identity, review, namespace.as_deref(), request).await
            }
            Some(route) => self.page(&identity, &route, &query, &request),
        }
    }

    /// Whether the newest state can be read, which needs a leader.
    async fn readiness(&self) -> Response<Body> {
        let one = ListOptions { limit: 1, ..ListOptions::default() };
        let read = self.shared.objects.list(pontoon_model::resource::NAMESPACES, None, &one);
        match tokio::time::timeout(Duration::from_secs(5), read).await {
            Ok(Ok(_)) => respond::text(StatusCode::OK, "ok"),
            Ok(Err(_)) | Err(_) => respond::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the cluster's state cannot be read: there is no leader",
            ),
        }
    }

    /// The pages that are no objects: versions, discovery and schemas.
    fn page(
        &self,
        identity: &Identity,
        route: &Route,
        query: &Query,
        request: &Request<RequestBody>,
    ) -> Result<Response<Body>, Status> {
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Ok(options("GET, HEAD, OPTIONS")),
            _ => return Err(page_method_not_allowed(request.method())),
        }
        let wanted = Attributes { path: Some(request.uri().path()), ..Attributes::of_verb("get") };
        if let Decision::Denied(reason) = authorize::decide(identity, &wanted) {
            return Err(authorize::refusal(identity, &wanted, &reason));
        }
        let openapi = &self.shared.openapi;
        let value = match route {
            Route::Version => self.shared.build.to_json(),
            Route::CoreVersions | Route::Groups => return discovery_page(route, request),
            Route::Group(group) => discovery::group_document(group),
            Route::GroupVersion { group, version } => discovery::resources(group, version),
            Route::OpenApiIndex => openapi.index(),
            Route::OpenApiDocument { group, version } => {
                let known = query.get("hash").is_some_and(|hash| hash == openapi.hash());
                let page = openapi_page(openapi.v3(group, version)?, request)?;
                return Ok(if known { respond::immutable(page) } else { page });
            }
            Route::OpenApiV2 if accept::wants_openapi_protobuf(request.headers()) => {
                let body = crate::body::full(openapi.v2_protobuf());
                return Ok(respond::of_type(StatusCode::OK, respond::OPENAPI_PROTOBUF, body));
            }
            Route::OpenApiV2 => return openapi_page(openapi.v2()?, request),
            Route::Alive | Route::Ready | Route::Objects(_) | Route::Review { .. } => {
                return Err(Status::no_such_path());
            }
        };
        respond::value(StatusCode::OK, &value, accept::of_objects(request.headers())?)
    }

    async fn review(
        &self,
        identity: &Identity,
        review: Review,
        namespace: Option<&str>,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, Status> {
        match *request.method() {
            Method::POST => {}
            Method::OPTIONS => return Ok(options("POST, OPTIONS")),
            _ => return Err(page_method_not_allowed(request.method())),
        }
        let _place = self.shared.in_flight.enter(&identity.user, Sort::Short)?;
        let wanted = Attributes {
            group: review.group,
            resource: review.plural,
            namespace: namespace.unwrap_or_default(),
            ..Attributes::of_verb("create")
        };
        if !review.is_about_oneself()
            && let Decision::Denied(reason) = authorize::decide(identity, &wanted)
        {
            return Err(authorize::refusal(identity, &wanted, &reason));
        }
        let form = accept::of_objects(request.headers())?;
        let (parts, body) = request.into_parts();
        let language = content::language(&parts.headers)?;
        let bytes = within_deadline(content::read(body)).await?;
        let question = content::decode(language, &bytes)?.value;
        let answer = review.answer(identity, namespace, question)?;
        respond::value(StatusCode::CREATED, &answer, form)
    }

    async fn objects(
        &self,
        identity: Identity,
        target: Target,
        query: Query,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, Status> {
        if *request.method() == Method::OPTIONS {
            return Ok(options(&call::methods(&target)));
        }
        let verb = match call::verb(request.method(), &target, &query) {
            Err(status) if status.code == 405 => {
                let methods = call::methods(&target);
                return Ok(respond::with_allow(respond::status(&status), &methods));
            }
            verb => verb?,
        };
        let sort = call::sort(verb, &target, &query);
        let place = self.shared.in_flight.enter(&identity.user, sort)?;
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.headers.contains_key(UPGRADE);
        let upgrade = upgrade.then(|| parts.extensions.remove::<OnUpgrade>()).flatten();
        let call = Call {
            shared: self.shared.clone(),
            identity,
            target,
            verb,
            query,
            headers: parts.headers,
            body: Mutex::new(body),
            upgrade,
            place: Some(place),
        };
        within_deadline(serve(call)).await
    }
}

async fn serve(call: Call) -> Result<Response<Body>, Status> {
    match authorize::decide(&call.identity, &call.attributes()) {
        Decision::Allowed => {}
        Decision::IfOwnPod => node_restriction::check_own(&call).await?,
        Decision::Denied(reason) => {
            return Err(authorize::refusal(&call.identity, &call.attributes(), &reason));
        }
    }
    verbs::serve(call).await
}

/// The deadline is for the answer's head; a stream that begins in time may go on.
async fn within_deadline<T>(work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => Err(Status::timeout(format!(
            "request did not complete within {} seconds",
            DEADLINE.as_secs()
        ))),
    }
}

fn discovery_page(route: &Route, request: &Request<RequestBody>) -> Result<Response<Body>, Status> {
    let core = *route == Route::CoreVersions;
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let forms = accept::forms(request.headers())?;
    for form in forms {
        match form {
            Form::Discovery(version) => {
                let bytes = respond::to_json(&discovery::aggregated(core, version))?;
                let content_type = format!(
                    "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                );
                let content_type = content_type.parse().unwrap_or(respond::JSON);
                let body = crate::body::full(bytes);
                return Ok(respond::of_type(StatusCode::OK, content_type, body));
            }
            Form::Json | Form::Yaml => {
                let plain = match core {
                    true => discovery::core_versions(host.unwrap_or_default()),
                    false => discovery::groups(),
                };
                return respond::value(StatusCode::OK, &plain, form);
            }
            Form::Table(_) | Form::Partial => {}
        }
    }
    Err(Status::not_acceptable("only application/json and application/yaml are served here"))
}

fn openapi_page(document: Bytes, request: &Request<RequestBody>) -> Result<Response<Body>, Status> {
    let forms = accept::forms(request.headers())?;
    if !forms.contains(&Form::Json) {
        return Err(Status::not_acceptable("only application/json is served here"));
    }
    Ok(respond::json_bytes(StatusCode::OK, document))
}

fn options(methods: &str) -> Response<Body> {
    let mut response = respond::json_bytes(StatusCode::NO_CONTENT, Bytes::new());
    if let Ok(value) = methods.parse() {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

fn page_method_not_allowed(method: &Method) -> Status {
    let mut status = Status::bad_request(format!(
        "the server does not allow {method} on the requested resource"
    ));
    status.code = 405;
    "MethodNotAllowed".clone_into(&mut status.reason);
    status
}
