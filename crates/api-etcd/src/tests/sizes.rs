//! What `Status` says of sizes.

use super::bed;
use super::client::Client;
use crate::proto::{Empty, StatusResponse};

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_those_of_files_and_of_keys() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    let sizes = async || {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: StatusResponse = client.call(path, &Empty {}).await.expect("a status");
        (status.db_size, status.db_size_in_use)
    };
    for key in ["a", "b"] {
        bed.store.put(key, vec![1; 100_000]).await.unwrap();
    }
    let (disk, keys) = sizes().await;
    assert!((200_000..201_000).contains(&keys), "{keys}");
    assert!(disk > keys, "{disk}");
    // The log is not all that is on disk.
    bed.store.snapshot().await.unwrap();
    let (with_snapshot, _) = sizes().await;
    assert!(with_snapshot >= disk + 200_000, "{with_snapshot} after {disk}");
    bed.store.put("a", "x").await.unwrap();
    bed.store.delete("b").await.unwrap();
    let (disk, keys) = sizes().await;
    assert!(keys < 1000, "{keys}");
    assert!(disk >= with_snapshot, "history and files are kept for now");
}
