//! Asks a server of etcd's API everything that the crate `etcd-client` can ask: `etcd-client-tried ENDPOINT`. The server
//! is to be new.

use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmType, CampaignResponse, Client, CompactionOptions, Compare, CompareOp,
    DeleteOptions, Error, EventType, GetOptions, LeaseTimeToLiveOptions, LockOptions,
    ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
};

/// How long somebody who waits is watched waiting.
const WAITS: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).expect("use: etcd-client-tried ENDPOINT");
    let client = Client::connect([endpoint], None).await?;
    keys(client.clone()).await?;
    watches(client.clone()).await?;
    leases(client.clone()).await?;
    locks(client.clone()).await?;
    elections(client.clone()).await?;
    maintenance(client.clone()).await?;
    println!("the crate etcd-client works");
    Ok(())
}

async fn keys(mut client: Client) -> Result<(), Error> {
    client.put("a", "1", None).await?;
    let put = client.put("a", "2", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(put.prev_key().expect("it was there").value(), b"1");
    for i in 0..5 {
        client.put(format!("p{i}"), format!("v{i}"), None).await?;
    }
    let options = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_limit(2);
    let found = client.get("p", Some(options)).await?;
    assert_eq!((found.more(), found.count(), found.kvs()[0].key()), (true, 5, &b"p4"[..]));
    let when = [
        Compare::value("a", CompareOp::Equal, "2"),
        Compare::create_revision("a", CompareOp::Greater, 1),
    ];
    let then = [
        TxnOp::put("a", "3", None),
        TxnOp::get("p0", None),
        TxnOp::delete("p1", Some(DeleteOptions::new().with_prev_key())),
        TxnOp::txn(Txn::new().and_then([TxnOp::get("p2", None)])),
    ];
    let txn = Txn::new().when(when).and_then(then).or_else([TxnOp::get("a", None)]);
    let done = client.txn(txn).await?;
    assert_eq!((done.succeeded(), done.op_responses().len()), (true, 4));
    let deleted = client.delete("p", Some(DeleteOptions::new().with_prefix())).await?;
    assert_eq!(deleted.deleted(), 4);
    let revision = deleted.header().expect("answers have headers").revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    let old = client
        .get("a", Some(GetOptions::new().with_revision(1)))
        .await
        .expect_err("it is compacted");
    assert!(old.to_string().contains("required revision has been compacted"), "{old}");
    Ok(())
}

async fn watches(mut client: Client) -> Result<(), Error> {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut watch = client.watch("w", Some(options)).await?;
    client.put("w1", "x", None).await?;
    client.put("w1", "y", None).await?;
    client.delete("w1", None).await?;
    let mut events = Vec::new();
    let mut id = None;
    while events.len() < 3 {
        let answer = watch.message().await?.expect("the stream goes on");
        id = Some(answer.watch_id());
        events.extend(answer.events().iter().map(|event| {
            let value = event.kv().map(|kv| kv.value().to_vec());
            (event.event_type(), value, event.prev_kv().map(|kv| kv.value().to_vec()))
        }));
    }
    assert_eq!(events[1], (EventType::Put, Some(b"y".to_vec()), Some(b"x".to_vec())));
    assert_eq!(events[2].0, EventType::Delete);
    watch.request_progress().await?;
    assert!(watch.message().await?.expect("it says how far it is").events().is_empty());
    watch.cancel(id.expect("it told events")).await?;
    assert!(watch.message().await?.expect("it says that it ends").canceled());
    Ok(())
}

async fn leases(mut client: Client) -> Result<(), Error> {
    let id = client.lease_grant(60, None).await?.id();
    let (mut keeper, mut kept) = client.lease_keep_alive(id).await?;
    keeper.keep_alive().await?;
    assert_eq!(kept.message().await?.expect("it lives").ttl(), 60);
    client.put("leased", "1", Some(PutOptions::new().with_lease(id))).await?;
    let left =
        client.lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    assert_eq!(left.keys(), [b"leased".to_vec()]);
    assert!(client.leases().await?.leases().iter().any(|lease| lease.id() == id));
    client.lease_revoke(id).await?;
    assert_eq!(client.get("leased", None).await?.count(), 0);
    Ok(())
}

async fn locks(mut client: Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    let held = client.lock("lock", Some(LockOptions::new().with_lease(lease))).await?;
    let mut other = client.clone();
    let waiter = tokio::spawn(async move { other.lock("lock", None).await });
    tokio::time::sleep(WAITS).await;
    assert!(!waiter.is_finished(), "two have the lock");
    client.unlock(held.key()).await?;
    let held = waiter.await.expect("it does not panic")?;
    client.unlock(held.key()).await?;
    Ok(())
}

async fn elections(mut client: Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    let elected: CampaignResponse = client.campaign("election", "a", lease).await?;
    let office = elected.leader().expect("it is elected").clone();
    client.proclaim("b", Some(ProclaimOptions::new().with_leader(office.clone()))).await?;
    assert_eq!(client.leader("election").await?.kv().expect("somebody is elected").value(), b"b");
    let mut seen = client.observe("election").await?;
    let leader = seen.message().await?.expect("somebody is elected");
    assert_eq!(leader.kv().expect("it has a key").value(), b"b");
    client.resign(Some(ResignOptions::new().with_leader(office))).await?;
    client.leader("election").await.expect_err("nobody is elected");
    Ok(())
}

async fn maintenance(mut client: Client) -> Result<(), Error> {
    assert_eq!(client.member_list().await?.members().len(), 1);
    assert_ne!(client.status().await?.leader(), 0);
    client.hash().await?;
    client.hash_kv(0).await?;
    client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    client.defragment().await?;
    Ok(())
}
