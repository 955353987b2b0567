//! Learners, promotion, and members that move.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::testing::{Cluster, member, run};
use crate::{Member, MemberError, MemberStatus, Range, Read, Role, Store, Tuning};

fn patient() -> Tuning {
    Tuning { request_timeout: Duration::from_secs(60), ..Tuning::default() }
}

fn status(store: &Store, id: u64) -> MemberStatus {
    store.members().into_iter().find(|status| status.member.id == id).expect("a member")
}

fn role(store: &Store, id: u64) -> Option<Role> {
    store.members().iter().find(|status| status.member.id == id).map(|status| status.role)
}

#[test]
fn a_learner_receives_and_does_not_count_until_it_is_promoted() {
    run(async {
        let mut cluster = Cluster::new(2, patient()).await;
        cluster.start(3).await;
        // Asked of any member, and twice.
        for asked in [2, 1] {
            cluster.store(asked).add_learner(member(3)).await.expect("a learner");
        }
        cluster.store(1).put("key", "value").await.expect("written");
        let read = cluster.store(3).range(Range::key("key"), Read::Linearizable).await;
        assert_eq!(read.expect("a learner reads").count, 1);
        let leader = cluster.leader(&[1, 2]).await;
        assert_eq!(role(cluster.store(leader), 3), Some(Role::Learner));
        let other = 3 - leader;
        cluster.store(other).promote_member(3).await.expect("it has caught up");
        cluster.store(leader).promote_member(3).await.expect("once more is no error");
        assert_eq!(role(cluster.store(leader), 3), Some(Role::Voter));
        // Now it counts: two of three are a quorum.
        cluster.kill(other).await;
        cluster.store(leader).put("key", "after").await.expect("written");
        let missing = cluster.store(leader).promote_member(9).await;
        assert_eq!(missing, Err(MemberError::NotFound { id: 9 }));
    });
}

#[test]
fn a_learner_that_lags_is_not_promoted() {
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let store = cluster.store(1);
        for number in 0..100 {
            store.put(format!("{number}"), "x").await.expect("written");
        }
        // It does not run, so it can have nothing.
        store.add_learner(member(2)).await.expect("a learner");
        let refused = store.promote_member(2).await;
        let Err(MemberError::Behind { id: 2, entries }) = refused else { panic!("{refused:?}") };
        assert!(entries >= 100, "{entries}");
        assert_eq!(role(store, 2), Some(Role::Learner));
        // A learner is no loss: writes went on, and it can be removed.
        store.put("key", "x").await.expect("written");
        store.remove_member(2).await.expect("removed");
        assert_eq!(role(store, 2), None);
        store.remove_member(2).await.expect("asked again by one who heard no answer");
    });
}

#[test]
fn a_learner_that_died_is_not_promoted() {
    run(async {
        let mut cluster = Cluster::new(1, patient()).await;
        cluster.start(2).await;
        cluster.store(1).add_learner(member(2)).await.expect("a learner");
        while status(cluster.store(1), 2).matched.is_none_or(|matched| matched == 0) {
            tokio::task::yield_now().await;
        }
        cluster.kill(2).await;
        let store = cluster.store(1);
        // Until the silence is noticed it would be promoted: wait for it.
        loop {
            if status(store, 2).silent_ms.is_none_or(|silence| silence > 2000) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let refused = store.promote_member(2).await;
        assert!(matches!(refused, Err(MemberError::Behind { id: 2, .. })), "{refused:?}");
        // With its vote wanted, this would be answered by nobody.
        store.put("key", "x").await.expect("written");
    });
}

#[test]
fn a_member_that_moved_is_called_at_its_new_address() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        let leader = cluster.leader(&cluster.ids()).await;
        let moving = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
        cluster.kill(moving).await;
        cluster.net.move_to(moving, 777);
        cluster.start(moving).await;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 777));
        let moved = Member { address, ..member(moving) };
        cluster.store(leader).update_member(moved.clone()).await.expect("updated");
        // Only over the new address can it have learnt of this.
        cluster.store(leader).put("key", "value").await.expect("written");
        let read = cluster.store(moving).range(Range::key("key"), Read::Linearizable).await;
        assert_eq!(read.expect("read").count, 1);
        let known = cluster.store(moving).members();
        assert!(known.iter().any(|status| status.member == moved), "{known:?}");
        // Every member, whoever leads next, calls it there.
        let third = cluster.ids().into_iter().find(|id| ![leader, moving].contains(id)).unwrap();
        cluster.kill(leader).await;
        cluster.store(third).put("key", "after").await.expect("two of three are a quorum");
    });
}

#[test]
fn an_update_takes_nobody_elses_name_or_address() {
    run(async {
        let cluster = Cluster::new(2, patient()).await;
        let store = cluster.store(1);
        let name = Member { name: "m1".to_owned(), ..member(2) };
        assert!(matches!(store.update_member(name).await, Err(MemberError::Taken { id: 1, .. })));
        let address = Member { address: member(1).address, ..member(2) };
        assert!(matches!(
            store.update_member(address).await,
            Err(MemberError::Taken { id: 1, .. })
        ));
        assert_eq!(store.update_member(member(5)).await, Err(MemberError::NotFound { id: 5 }));
        let name = Member { name: "other".to_owned(), ..member(2) };
        store.update_member(name.clone()).await.expect("a free name");
        assert!(store.members().iter().any(|status| status.member == name));
    });
}

#[test]
fn nobody_stays_connected_to_a_member_that_was_removed() {
    run(async {
        let cluster = Cluster::new(3, patient()).await;
        let gone = cluster.leader(&cluster.ids()).await;
        let rest: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != gone).collect();
        for id in &rest {
            cluster.store(*id).put(format!("{id}"), "x").await.expect("forwarded");
        }
        let mut open = cluster.net.open();
        let to_it = |open: &BTreeMap<(u64, u64), usize>| -> usize {
            open.iter().filter(|((_, to), _)| *to == gone).map(|(_, count)| count).sum()
        };
        assert!(to_it(&open.borrow()) >= 2, "{:?}", open.borrow());
        cluster.store(gone).transfer_leadership(Some(rest[0])).await.expect("another leads");
        // Before it has heard the third, a new leader takes it for lost, and removes nobody.
        while status(cluster.store(rest[0]), rest[1]).silent_ms.is_none_or(|silent| silent > 500) {
            tokio::task::yield_now().await;
        }
        cluster.store(rest[0]).remove_member(gone).await.expect("removed");
        // It runs, and would be spoken to for ever.
        open.wait_for(|open| to_it(open) == 0).await.expect("there is a net");
        cluster.store(rest[1]).put("after", "x").await.expect("the others go on");
    });
}
