//! The agent: services and checks of this node, and how checks come to be as they are.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Bed, bed};

async fn done(bed: &Bed, uri: &str, body: &str) {
    let said = bed.ask("PUT", &format!("/v1/agent/{uri}"), body.to_owned()).await;
    assert_eq!((said.status, said.text()), (StatusCode::OK, ""), "{uri} {body}");
}

/// The status and the output of a check of this node.
async fn check(bed: &Bed, id: &str) -> (String, String) {
    let checks = bed.get("/v1/agent/checks").await.json();
    let text = |name: &str| checks[id][name].as_str().unwrap_or("none").to_owned();
    (text("Status"), text("Output"))
}

/// Returns when a check is so.
async fn becomes(bed: &Bed, id: &str, status: &str) -> String {
    let mut index = 0;
    loop {
        let said = bed.get(&format!("/v1/health/node/one?index={index}")).await;
        let found = said.json().as_array().unwrap().iter().find(|c| c["CheckID"] == id).cloned();
        if let Some(found) = found.filter(|found| found["Status"] == status) {
            return found["Output"].as_str().unwrap().to_owned();
        }
        index = said.index();
    }
}

#[tokio::test]
async fn a_service_is_registered_shown_and_taken_away() {
    let bed = bed().await;
    assert_eq!(bed.get("/v1/agent/services").await.text(), "{}");
    assert_eq!(bed.get("/v1/agent/checks").await.text(), "{}");
    let web = r#"{"Name":"web","ID":"web1","Tags":["v1"],"Port":80,"Address":"10.0.0.1","Meta":{"a":"b"},
                  "Check":{"TTL":"30s"}}"#;
    done(&bed, "service/register", web).await;
    done(&bed, "service/register", r#"{"name":"plain"}"#).await;
    let shown = "{\"plain\":{\"ID\":\"plain\",\"Service\":\"plain\",\"Tags\":[],\"Meta\":{},\"Port\":0,\
         \"Address\":\"\",\"Weights\":{\"Passing\":1,\"Warning\":1},\"EnableTagOverride\":false},\
         \"web1\":{\"ID\":\"web1\",\"Service\":\"web\",\"Tags\":[\"v1\"],\"Meta\":{\"a\":\"b\"},\"Port\":80,\
         \"Address\":\"10.0.0.1\",\"TaggedAddresses\":{\"lan_ipv4\":{\"Address\":\"10.0.0.1\",\"Port\":80},\
         \"wan_ipv4\":{\"Address\":\"10.0.0.1\",\"Port\":80}},\"Weights\":{\"Passing\":1,\"Warning\":1},\
         \"EnableTagOverride\":false}}";
    assert_eq!(bed.get("/v1/agent/services").await.text(), shown);
    let wanted = json!({"service:web1": {
        "Node": "one", "CheckID": "service:web1", "Name": "Service 'web' check", "Status": "critical",
        "Notes": "", "Output": "", "ServiceID": "web1", "ServiceName": "web", "ServiceTags": ["v1"],
        "Type": "ttl", "Definition": {},
    }});
    let mut checks = bed.get("/v1/agent/checks").await.json();
    for index in ["CreateIndex", "ModifyIndex"] {
        checks["service:web1"].as_object_mut().unwrap().remove(index);
    }
    assert_eq!(checks, wanted);
    let one = bed.get("/v1/agent/service/web1").await;
    assert_eq!(one.json()["ContentHash"], one.header("x-consul-contenthash"));
    let hash = one.header("x-consul-contenthash");
    let same = bed.get(&format!("/v1/agent/service/web1?hash={hash}&wait=1ms")).await;
    assert_eq!(same.body, one.body);
    let none = bed.get("/v1/agent/service/none").await;
    assert_eq!((none.status, none.text()), (StatusCode::NOT_FOUND, "unknown service ID: none"));
    done(&bed, "service/deregister/web1", "").await;
    done(&bed, "service/deregister/none", "").await;
    assert_eq!(bed.get("/v1/agent/checks").await.text(), "{}");
    assert_eq!(bed.get("/v1/catalog/services").await.text(), r#"{"plain":[]}"#);
}

#[tokio::test]
async fn bad_services_and_checks_are_refused() {
    let bed = bed().await;
    for (uri, body, status, words) in [
        ("service/register", "", 400, "Request decode failed: EOF"),
        ("service/register", "{}", 400, "Missing service name"),
        (
            "service/register",
            r#"{"Name":"bad","Check":{"HTTP":"http://127.0.0.1:1/"}}"#,
            400,
            "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            "service/register",
            r#"{"Name":"bad","Check":{"Name":"x"}}"#,
            400,
            "Invalid check: TTL must be > 0 for TTL checks",
        ),
        ("check/register", r#"{"TTL":"15s"}"#, 400, "Missing check name"),
        (
            "check/register",
            r#"{"Name":"a","Interval":"15s","TTL":"3s"}"#,
            400,
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            "check/register",
            r#"{"Name":"a","TTL":"3s","ServiceID":"none"}"#,
            500,
            "ServiceID \"none\" does not exist",
        ),
        ("check/pass/none", "", 500, "CheckID \"none\" does not have associated TTL"),
        ("check/update/none", r#"{"Status":"fly"}"#, 400, "Invalid check status: 'fly'"),
        ("service/maintenance/none", "", 400, "Missing value for enable"),
        ("service/maintenance/none?enable=true", "", 404, "No service registered with ID \"none\""),
        ("force-leave/none", "", 500, "agent: No node found with name 'none'"),
        ("leave", "", 500, "this one stays"),
    ] {
        let said = bed.ask("PUT", &format!("/v1/agent/{uri}"), body).await;
        assert_eq!((said.status.as_u16(), said.text()), (status, words), "{uri} {body}");
    }
    let script = r#"{"Name":"bad","Check":{"Args":["x"],"Interval":"10s"}}"#;
    let said = bed.ask("PUT", "/v1/agent/service/register", script).await;
    assert!(said.text().starts_with("Scripts are disabled on this agent from remote calls"));
    assert_eq!(bed.get("/v1/agent/services").await.text(), "{}");
}

#[tokio::test]
async fn a_check_is_as_it_is_told_until_its_time_is_up() {
    let bed = bed().await;
    done(&bed, "service/register", r#"{"Name":"web","Check":{"TTL":"30s"}}"#).await;
    let id = "service:web";
    done(&bed, "check/pass/service:web?note=ok", "").await;
    assert_eq!(check(&bed, id).await, ("passing".to_owned(), "ok".to_owned()));
    let revision = bed.store.revision();
    done(&bed, "check/pass/service:web?note=ok", "").await;
    assert_eq!(bed.store.revision(), revision, "the same again is no change");
    done(&bed, "check/warn/service:web", "").await;
    assert_eq!(check(&bed, id).await.0, "warning");
    done(&bed, "check/update/service:web", r#"{"Status":"passing","Output":"curl"}"#).await;
    done(&bed, "service/register", r#"{"Name":"web","Check":{"TTL":"30s"}}"#).await;
    assert_eq!(check(&bed, id).await.0, "passing", "who registers again says nothing about it");
    bed.time_passes().await;
    let output = becomes(&bed, id, "critical").await;
    assert_eq!(output, "TTL expired (last output before timeout follows): curl");
    done(&bed, "check/pass/service:web", "").await;
    assert_eq!(check(&bed, id).await.0, "passing");
}

#[tokio::test]
async fn a_service_that_is_critical_too_long_goes() {
    let bed = bed().await;
    let web = r#"{"Name":"web","Check":{"TTL":"30s","DeregisterCriticalServiceAfter":"1m"}}"#;
    done(&bed, "service/register", web).await;
    done(&bed, "check/pass/service:web", "").await;
    let leases: Vec<_> = bed.store.leases().iter().map(|lease| lease.ttl).collect();
    assert!(leases.contains(&30) && leases.contains(&60), "{leases:?}");
    bed.time_passes().await;
    becomes(&bed, "service:web", "critical").await;
    bed.time_passes().await;
    let mut index = 0;
    loop {
        let said = bed.get(&format!("/v1/catalog/services?index={index}")).await;
        if said.text() == "{}" {
            break;
        }
        index = said.index();
    }
    assert_eq!(bed.get("/v1/agent/checks").await.text(), "{}");
}

#[tokio::test]
async fn aliases_follow_what_they_stand_for() {
    let bed = bed().await;
    done(&bed, "service/register", r#"{"Name":"db","Check":{"TTL":"30s"}}"#).await;
    done(&bed, "service/register", r#"{"Name":"web","Check":{"AliasService":"db"}}"#).await;
    assert_eq!(check(&bed, "service:web").await.0, "critical");
    done(&bed, "check/pass/service:db", "").await;
    let now = check(&bed, "service:web").await;
    assert_eq!(now, ("passing".to_owned(), "All checks passing.".to_owned()));
}

#[tokio::test]
async fn health_of_the_agents_services() {
    let bed = bed().await;
    done(&bed, "service/register", r#"{"Name":"web","ID":"w1","Check":{"TTL":"30s"}}"#).await;
    done(&bed, "service/register", r#"{"Name":"plain"}"#).await;
    let health = async |uri: &str| {
        let said = bed.get(&format!("/v1/agent/health/service/{uri}")).await;
        (said.status.as_u16(), said.header("x-consul-reason").to_owned(), said.text().to_owned())
    };
    let (code, reason, body) = health("id/w1").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (code, reason.as_str(), &body["AggregatedStatus"]),
        (503, "critical", &json!("critical"))
    );
    assert_eq!(body["Checks"][0]["CheckID"], "service:w1");
    assert_eq!(health("name/web").await.0, 503);
    assert_eq!(health("name/plain").await.0, 200);
    done(&bed, "check/warn/service:w1", "").await;
    assert_eq!(
        health("id/w1?format=text").await,
        (429, "warning".to_owned(), "warning".to_owned())
    );
    let none = r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#;
    assert_eq!(
        health("id/none").await,
        (404, "ServiceId none not found".to_owned(), none.to_owned())
    );
}

#[tokio::test]
async fn maintenance_is_a_critical_check() {
    let bed = bed().await;
    done(&bed, "service/register", r#"{"Name":"web"}"#).await;
    let passing =
        async || bed.get("/v1/health/service/web?passing").await.json().as_array().map(Vec::len);
    done(&bed, "service/maintenance/web?enable=true&reason=why", "").await;
    let checks = bed.get("/v1/agent/checks").await.json();
    assert_eq!(checks["_service_maintenance:web"]["Notes"], "why");
    assert_eq!(passing().await, Some(0));
    done(&bed, "service/maintenance/web?enable=false", "").await;
    assert_eq!(passing().await, Some(1));
    done(&bed, "maintenance?enable=true", "").await;
    assert_eq!(passing().await, Some(0));
    done(&bed, "maintenance?enable=false", "").await;
    assert_eq!(passing().await, Some(1));
}

#[tokio::test]
async fn members_and_the_server_itself() {
    let bed = bed().await;
    let members = bed.get("/v1/agent/members").await.json();
    assert_eq!(
        (&members[0]["Name"], &members[0]["Port"], &members[0]["Status"]),
        (&json!("one"), &json!(8301), &json!(1))
    );
    assert_eq!((&members[1]["Status"], &members[1]["Tags"]["role"]), (&json!(4), &json!("node")));
    let this = bed.get("/v1/agent/self").await.json();
    assert_eq!(
        (&this["Config"]["NodeName"], &this["Config"]["Datacenter"]),
        (&json!("one"), &json!("dc1"))
    );
    assert_eq!(this["Stats"]["consul"]["leader"], "true");
    done(&bed, "join/10.0.0.2", "").await;
    assert_eq!(
        bed.ask("PUT", "/v1/agent/join/10.9.9.9", "").await.status,
        StatusCode::NOT_IMPLEMENTED
    );
    for uri in ["leave", "force-leave/two", "maintenance?enable=true"] {
        let said = bed
            .ask(
                "PUT",
                &format!("/v1/agent/{uri}{}token=app", if uri.contains('?') { "&" } else { "?" }),
                "",
            )
            .await;
        assert_eq!(said.status, StatusCode::FORBIDDEN, "{uri}");
    }
}

/// Answers each connection with the next of these.
async fn answering(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for answer in answers.iter().cycle() {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok() {
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }
    });
    address
}

#[tokio::test]
async fn probes_say_what_they_find() {
    let bed = bed().await;
    let probing = tokio::spawn(bed.server.clone().probe_services());
    let good = answering(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
    let moved =
        answering(&["HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"]).await;
    let register = async |name: &str, what: &str, target: &str| {
        let body = json!({"Name": name, "Check": {what: target, "Interval": "10s"}}).to_string();
        done(&bed, "service/register", &body).await;
    };
    register("good", "HTTP", &format!("http://{good}/health")).await;
    register("moved", "HTTP", &format!("http://{moved}/")).await;
    register("open", "TCP", &good).await;
    register("metadata", "HTTP", "http://169.254.169.254/latest").await;
    let output = becomes(&bed, "service:good", "passing").await;
    assert_eq!(output, format!("HTTP GET http://{good}/health: 200 OK Output: ok"));
    assert_eq!(
        becomes(&bed, "service:open", "passing").await,
        format!("TCP connect {good}: Success")
    );
    for (id, word) in [("service:moved", "302 Found"), ("service:metadata", "not probed")] {
        let mut index = 0;
        loop {
            let said = bed.get(&format!("/v1/health/node/one?index={index}")).await;
            if said.text().contains(word) {
                break;
            }
            index = said.index();
        }
        assert_eq!(check(&bed, id).await.0, "critical");
    }
    probing.abort();
}
