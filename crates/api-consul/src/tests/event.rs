//! Events: fired, listed in order, waited for, and forgotten when there are too many.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::bed;

#[tokio::test]
async fn events_are_fired_and_listed() {
    let bed = bed().await;
    assert_eq!(bed.get("/v1/event/list").await.text(), "[]");
    let fired = bed.ask("PUT", "/v1/event/fire/deploy", "1609030").await.json();
    assert_eq!((&fired["Name"], &fired["Payload"]), (&json!("deploy"), &json!("MTYwOTAzMA==")));
    assert_eq!((&fired["Version"], &fired["LTime"]), (&json!(1), &json!(0)));
    let other = bed.ask("PUT", "/v1/event/fire/app", "").await.json();
    assert_eq!(other["Payload"], json!(null));
    let listed = bed.get("/v1/event/list").await.json();
    assert_eq!((&listed[0]["ID"], &listed[1]["ID"]), (&fired["ID"], &other["ID"]));
    let named = bed.get("/v1/event/list?name=deploy").await.json();
    assert_eq!((named.as_array().map(Vec::len), &named[0]["ID"]), (Some(1), &fired["ID"]));
    let seen = bed.get("/v1/event/list?token=app").await.json();
    assert_eq!((seen.as_array().map(Vec::len), &seen[0]["ID"]), (Some(1), &other["ID"]));
    let named = bed.ask("PUT", "/v1/event/fire/x?node=^one$&service=web&tag=v1", "").await.json();
    assert_eq!(
        (&named["NodeFilter"], &named["ServiceFilter"], &named["TagFilter"]),
        (&json!("^one$"), &json!("web"), &json!("v1"))
    );
    for (query, words) in [
        ("tag=t", "Cannot provide tag filter without service filter"),
        ("node=[", "Invalid node filter: "),
    ] {
        let said = bed.ask("PUT", &format!("/v1/event/fire/x?{query}"), "").await;
        assert_eq!(said.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(said.text().starts_with(words), "{}", said.text());
    }
    let denied = bed.ask("PUT", "/v1/event/fire/deploy?token=app", "").await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let missing = bed.ask("PUT", "/v1/event/fire/", "").await;
    assert_eq!((missing.status, missing.text()), (StatusCode::BAD_REQUEST, "Missing name"));
    let large = bed.ask("PUT", "/v1/event/fire/deploy", vec![b'x'; 513]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_event_wakes_those_who_wait() {
    let bed = Arc::new(bed().await);
    bed.ask("PUT", "/v1/event/fire/a", "").await;
    let said = bed.get("/v1/event/list").await;
    let waiting = {
        let (bed, index) = (Arc::clone(&bed), said.index());
        tokio::spawn(async move { bed.get(&format!("/v1/event/list?index={index}")).await })
    };
    let fired = bed.ask("PUT", "/v1/event/fire/b", "").await.json();
    let woken = waiting.await.unwrap();
    assert_eq!(woken.json()[1]["ID"], fired["ID"]);
    let index = woken.index();
    assert_ne!(index, said.index());
    let waited = bed.get(&format!("/v1/event/list?wait=1ms&index={index}")).await;
    assert_eq!(waited.index(), index);
}

#[tokio::test]
async fn old_events_are_forgotten() {
    let bed = bed().await;
    for n in 0..260 {
        bed.ask("PUT", &format!("/v1/event/fire/{n}"), "").await;
    }
    let listed = bed.get("/v1/event/list").await.json();
    let listed = listed.as_array().unwrap();
    assert_eq!(
        (listed.len(), &listed[0]["Name"], &listed[255]["Name"]),
        (256, &json!("4"), &json!("259"))
    );
}
