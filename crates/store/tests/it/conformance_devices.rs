//! Part of the conformance suite: the device register.

use crate::databases::Empty;
use crate::model::*;
use countersign_core::ports::devices::*;
use countersign_core::ports::store::*;
use countersign_core::{KeyId, Micros, NodeId};

/// Evidence of its key named this device. What the service hashes is told apart here by its tenant.
pub fn seen(it: &Everything, device: u8, at: Micros) -> Sighting {
    let mut under = [device; 32];
    under[..16].copy_from_slice(it.id().as_bytes());
    Sighting {
        tenant: it.id(),
        key: it.key.id,
        device: [device; 32],
        under,
        batch: false,
        seen: at,
    }
}

async fn see(s: &impl Store, node: NodeId, rows: impl IntoIterator<Item = Sighting>) {
    let all = rows.into_iter().map(Effect::SeeDevice);
    commit(s, node, effects(all)).await.unwrap();
}

async fn three<E: Empty>(db: &E, node: NodeId) -> [Everything; 3] {
    let all = ["acme", "bolt", "cog"].map(Everything::named);
    for it in &all {
        it.create(&**db.store(), node).await;
    }
    all
}

async fn shared(s: &impl Store) -> Vec<(u8, i64)> {
    let all = s.shared_devices(None, 100).await.unwrap();
    all.iter().map(|d| (d.device[0], d.shared.0)).collect()
}

fn known(device: u8, shared: Option<i64>, seen: i64) -> KnownDevice {
    KnownDevice {
        device: [device; 32],
        shared: shared.map(Micros),
        seen: Micros(seen),
    }
}

pub async fn a_device_is_shared_once_a_second_tenant_has_it<E: Empty>() {
    let db = E::empty().await;
    let node = NodeId::new();
    let [acme, bolt, cog] = three(&db, node).await;
    let s = &**db.store();
    let of = async |it: &Everything| s.devices_of(it.id(), it.key.id).await.unwrap();
    assert_eq!(of(&acme).await, []);
    let version = s.tenant(acme.id()).await.unwrap().unwrap().version;

    // The same tenant as often as it likes: the first time counts.
    for at in [10, 20] {
        see(s, node, [seen(&acme, 1, Micros(at))]).await;
    }
    see(s, node, [seen(&bolt, 2, Micros(30))]).await;
    assert_eq!(of(&acme).await, [known(1, None, 10)]);
    assert_eq!(shared(s).await, []);
    let now = s.tenant(acme.id()).await.unwrap().unwrap().version;
    assert_eq!(now, version, "no version moves");

    // A second tenant, and a third: since the second.
    see(s, node, [seen(&bolt, 1, Micros(40))]).await;
    see(s, node, [seen(&cog, 1, Micros(50))]).await;
    assert_eq!(shared(s).await, [(1, 40)]);
    assert_eq!(of(&acme).await, [known(1, Some(40), 10)]);
    assert_eq!(
        of(&bolt).await,
        [known(1, Some(40), 40), known(2, None, 30)]
    );
    let keys = s.keys_in_device([1; 32], 100).await.unwrap();
    let keys: Vec<_> = keys
        .iter()
        .map(|k| (k.tenant.as_str(), k.key, k.seen.0))
        .collect();
    let expected = [
        ("acme", acme.key.id, 10),
        ("bolt", bolt.key.id, 40),
        ("cog", cog.key.id, 50),
    ];
    assert_eq!(keys, expected);
    assert_eq!(s.keys_in_device([1; 32], 2).await.unwrap().len(), 2);
    assert_eq!(s.keys_in_device([3; 32], 100).await.unwrap(), []);

    // A key that is not there is none of a device.
    let mut nobodys = seen(&acme, 4, Micros(60));
    nobodys.key = bolt.key.id;
    let refused = commit(s, node, effects([Effect::SeeDevice(nobodys)])).await;
    assert!(
        matches!(refused, Err(CommitError::Conflict { item: 0, .. })),
        "{refused:?}"
    );
}

/// What many devices share says nothing of one: only the operator's list has it.
pub async fn a_batch_is_for_the_operator_alone<E: Empty>() {
    let db = E::empty().await;
    let node = NodeId::new();
    let [acme, bolt, _] = three(&db, node).await;
    let s = &**db.store();
    for (it, at) in [(&acme, 10), (&bolt, 20)] {
        let mut batch = seen(it, 1, Micros(at));
        batch.batch = true;
        see(s, node, [batch, seen(it, 2, Micros(at))]).await;
    }
    for (it, at) in [(&acme, 10), (&bolt, 20)] {
        let known_of = s.devices_of(it.id(), it.key.id).await.unwrap();
        assert_eq!(known_of, [known(2, Some(20), at)]);
    }
    let all = s.shared_devices(None, 100).await.unwrap();
    let all: Vec<_> = all.iter().map(|d| (d.device[0], d.batch)).collect();
    assert_eq!(all, [(1, true), (2, false)]);
    assert_eq!(s.keys_in_device([1; 32], 100).await.unwrap().len(), 2);
}

/// As many keys of one tenant as the operator is shown, all before the first of another.
pub async fn a_tenant_with_many_keys_in_a_device_hides_no_other<E: Empty>() {
    const SHOWN: u32 = 101;
    let db = E::empty().await;
    let node = NodeId::new();
    let [acme, bolt, cog] = three(&db, node).await;
    let s = &**db.store();
    let more: Vec<KeyId> = (0..120).map(|_| KeyId::new()).collect();
    let keys = more.iter().map(|&id| {
        let mut key = acme.key.clone();
        key.id = id;
        create_key(key)
    });
    commit(s, node, effects(keys)).await.unwrap();
    let all = more.iter().zip(1..).map(|(&key, at)| Sighting {
        key,
        ..seen(&acme, 1, Micros(at))
    });
    see(s, node, all).await;
    see(s, node, [seen(&bolt, 1, Micros(2000))]).await;
    see(s, node, [seen(&cog, 1, Micros(1000))]).await;
    see(s, node, [seen(&cog, 2, Micros(1))]).await;

    let shown = s.keys_in_device([1; 32], SHOWN).await.unwrap();
    let shown: Vec<_> = shown.iter().map(|k| (k.tenant.as_str(), k.key)).collect();
    let mut expected = vec![
        ("acme", more[0]),
        ("cog", cog.key.id),
        ("bolt", bolt.key.id),
    ];
    expected.extend(more[1..99].iter().map(|&key| ("acme", key)));
    assert_eq!(shown, expected);
    let all = s.keys_in_device([1; 32], 1000).await.unwrap();
    assert_eq!(all.len(), 122);
    let few = s.keys_in_device([1; 32], 3).await.unwrap();
    let few: Vec<_> = few.iter().map(|k| k.tenant.as_str()).collect();
    assert_eq!(few, ["acme", "cog", "bolt"]);
}

pub async fn a_device_of_two_tenants_at_one_moment_is_shared<E: Empty>() {
    let db = E::empty().await;
    let node = NodeId::new();
    let [acme, bolt, _] = three(&db, node).await;
    let s = &**db.store();
    for device in 0..20 {
        let (a, b) = tokio::join!(
            see(s, node, [seen(&acme, device, Micros(1))]),
            see(s, node, [seen(&bolt, device, Micros(1))]),
        );
        let ((), ()) = (a, b);
    }
    assert_eq!(shared(s).await.len(), 20);
}

pub async fn shared_devices_are_walked_in_order<E: Empty>() {
    let db = E::empty().await;
    let node = NodeId::new();
    let [acme, bolt, cog] = three(&db, node).await;
    let s = &**db.store();
    for device in [7, 0, 255, 9, 8] {
        see(s, node, [seen(&acme, device, Micros(1))]).await;
    }
    for device in [255, 7, 0, 8] {
        see(s, node, [seen(&bolt, device, Micros(2))]).await;
    }
    see(s, node, [seen(&cog, 100, Micros(3))]).await;
    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let some = s.shared_devices(after, 3).await.unwrap();
        let Some(last) = some.last() else { break };
        after = Some(last.device);
        walked.extend(some.iter().map(|d| d.device[0]));
    }
    assert_eq!(walked, [0, 7, 8, 255]);
}
