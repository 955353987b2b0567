//! A pod that is deleted leaves its services before it is told to end: the other nodes send it connections until they
//! have heard that it goes, and it has to be there for those.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::assignments::Assignments;

/// The longest that is waited for the managers to take the pod out of its services.
const LONGEST: Duration = Duration::from_secs(2);
/// Other nodes hear of a change when this one does, and need a moment to make it true.
const OTHERS: Duration = Duration::from_millis(500);

/// Where a pod stands in its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// No service has it.
    None,
    /// Connections are sent to it.
    Served,
    /// It is known to go, or not to be ready.
    Passed,
}

/// Returns once nobody sends new connections to the pod: at once if no service has it.
pub(super) async fn services(uid: String, mut assignments: watch::Receiver<Arc<Assignments>>) {
    if place(&assignments.borrow(), &uid) == Place::None {
        return;
    }
    let passed = assignments.wait_for(|newest| place(newest, &uid) != Place::Served);
    // Too slow, or the agent ends: the pod has its end all the same.
    drop(tokio::time::timeout(LONGEST, passed).await);
    tokio::time::sleep(OTHERS).await;
}

fn place(assignments: &Assignments, uid: &str) -> Place {
    let endpoints = assignments.slices.values().flat_map(|slice| slice.endpoints.iter().flatten());
    let own = endpoints.filter(|endpoint| {
        endpoint.target_ref.as_ref().is_some_and(|target| target.uid.as_deref() == Some(uid))
    });
    own.map(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        if ready && !terminating { Place::Served } else { Place::Passed }
    })
    .fold(Place::None, |all, one| match (all, one) {
        (Place::Served, _) | (_, Place::Served) => Place::Served,
        (_, one) => one,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(conditions: Option<serde_json::Value>) -> Arc<Assignments> {
        let mut assignments = Assignments::default();
        if let Some(conditions) = conditions {
            let slice = json!({"metadata": {"namespace": "d", "name": "s"}, "addressType": "IPv4",
                "endpoints": [
                    {"addresses": ["10.244.9.9"], "targetRef": {"uid": "other"}},
                    {"addresses": ["10.244.1.2"], "targetRef": {"uid": "u"}, "conditions": conditions}]});
            let slice = Arc::new(serde_json::from_value(slice).unwrap());
            assignments.slices.insert(("d".into(), "s".into()), slice);
        }
        Arc::new(assignments)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_no_service_leaves_at_once() {
        let (_sender, receiver) = watch::channel(told(None));
        let begun = tokio::time::Instant::now();
        services("u".into(), receiver).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_served_waits_until_it_is_known_to_go() {
        let (sender, receiver) = watch::channel(told(Some(json!({"ready": true}))));
        let leaving = services("u".into(), receiver);
        tokio::pin!(leaving);
        assert!(futures::poll!(&mut leaving).is_pending());
        sender.send_replace(told(Some(json!({"ready": false, "terminating": true}))));
        let begun = tokio::time::Instant::now();
        leaving.await;
        assert_eq!(begun.elapsed(), OTHERS);
    }

    #[tokio::test(start_paused = true)]
    async fn managers_that_are_silent_hold_up_nobody_for_long() {
        let (_sender, receiver) = watch::channel(told(Some(json!({}))));
        let begun = tokio::time::Instant::now();
        services("u".into(), receiver).await;
        assert_eq!(begun.elapsed(), LONGEST + OTHERS);
    }
}
