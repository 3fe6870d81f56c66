//! What auditors read: checkpoints, tiles, details. Every read takes the caller's own tenant; a log
//! of anybody else is as absent as one that never was.

use crate::caller::Caller;
use crate::{Service, SigningError};
use countersign_core::ports::rows::LogHead;
use countersign_core::ports::store::Store;
use countersign_core::{LogId, TenantId, TenantName};
use countersign_signing_log::Hash;
use countersign_signing_log::proof_from::{self, NodeLookup};
use countersign_signing_log::tile::{EntryBundle, Tile, TileKind, TilePath};
use std::sync::Arc;

/// Details lines in one answer.
const MAX_DETAILS: u32 = 1000;

impl Service {
    /// The tenant's logs.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn logs(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<LogHead>, SigningError> {
        Ok(self.store().heads(self.reader(caller, name)?).await?)
    }

    /// The last signed checkpoint of a log.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] for a log that is not the caller's.
    pub async fn checkpoint(&self, caller: &Caller, log: LogId) -> Result<String, SigningError> {
        Ok(self.readable(caller, log).await?.checkpoint)
    }

    /// A tile or an entry bundle. Partial ones are served for every size that has existed.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] for tiles beyond the tree and logs that are not the caller's.
    pub async fn tile(
        &self,
        caller: &Caller,
        log: LogId,
        path: &TilePath,
    ) -> Result<Vec<u8>, SigningError> {
        let head = self.readable(caller, log).await?;
        let width = u64::from(path.width);
        let first = path.index.checked_mul(256).ok_or(SigningError::NotFound)?;
        let have = match path.kind {
            // Entries and level 0 have one item per leaf.
            TileKind::Entries => head.size,
            TileKind::Hashes { level } => head.size.checked_shr(8 * u32::from(level)).unwrap_or(0),
        };
        if first.checked_add(width).is_none_or(|end| end > have) {
            return Err(SigningError::NotFound);
        }
        let count = u32::from(path.width);
        let short = || SigningError::Internal(format!("log {log} is shorter than its head"));
        match path.kind {
            TileKind::Entries => {
                let entries = self.store().leaves(head.tenant, log, first, count).await?;
                if entries.len() as u64 != width {
                    return Err(short());
                }
                EntryBundle { entries }
                    .encode()
                    .map_err(|e| SigningError::Internal(e.to_string()))
            }
            TileKind::Hashes { level } => {
                let hashes = self
                    .store()
                    .hashes(head.tenant, log, level, first, count)
                    .await?;
                if hashes.len() as u64 != width {
                    return Err(short());
                }
                Ok(Tile { hashes }.encode())
            }
        }
    }

    /// Details lines: salts and values of the commitments.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] for a log that is not the caller's.
    pub async fn details(
        &self,
        caller: &Caller,
        name: &TenantName,
        log: LogId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<(u64, String)>, SigningError> {
        let tenant = self.reader(caller, name)?;
        self.store()
            .head(tenant, log)
            .await?
            .ok_or(SigningError::NotFound)?;
        Ok(self
            .store()
            .details(tenant, log, from, limit.min(MAX_DETAILS))
            .await?)
    }

    async fn readable(&self, caller: &Caller, log: LogId) -> Result<LogHead, SigningError> {
        let head = self
            .store()
            .head(caller.tenant, log)
            .await?
            .ok_or(SigningError::NotFound)?;
        caller.may_read().or_else(|e| {
            // The operator's people read the operator's own log.
            if caller.tenant == countersign_core::ports::rows::OPERATOR_REALM
                && !caller.roles.is_empty()
            {
                Ok(())
            } else {
                Err(e)
            }
        })?;
        Ok(head)
    }
}

/// What brings a worker up that is far behind.
pub(crate) struct FarProof {
    pub consistency: Vec<Hash>,
    pub base_size: u64,
    pub base_frontier: Vec<Hash>,
    pub leaf_hashes: Vec<Hash>,
}

/// Proves that the tree of `new` leaves extends that of `old`, and gives the right edge at a block
/// boundary not after `index`, with the leaf hashes from there. Reads O(log n) tiles.
pub(crate) async fn far_proof(
    store: Arc<dyn Store>,
    tenant: TenantId,
    log: LogId,
    old: u64,
    new: u64,
    index: u64,
) -> Result<FarProof, SigningError> {
    let base_size = index.min(new) / 256 * 256;
    let source = Source {
        store: store.clone(),
        tenant,
        log,
        handle: tokio::runtime::Handle::current(),
    };
    let (consistency, base_frontier) = tokio::task::spawn_blocking(move || {
        let consistency = proof_from::consistency_proof(&source, old, new)
            .map_err(|e| SigningError::Internal(format!("consistency proof: {e}")))?;
        let frontier = proof_from::frontier_at(&source, base_size)
            .map_err(|e| SigningError::Internal(format!("right edge: {e}")))?;
        Ok::<_, SigningError>((consistency, frontier.nodes().to_vec()))
    })
    .await
    .map_err(|e| SigningError::Internal(e.to_string()))??;
    let mut leaf_hashes = Vec::new();
    let mut from = base_size;
    while from < new {
        let count = u32::try_from((new - from).min(256)).unwrap_or(256);
        let part = store.hashes(tenant, log, 0, from, count).await?;
        if part.is_empty() {
            return Err(SigningError::Internal(format!(
                "log {log} has no leaf hash {from}"
            )));
        }
        from += part.len() as u64;
        leaf_hashes.extend(part);
    }
    Ok(FarProof {
        consistency,
        base_size,
        base_frontier,
        leaf_hashes,
    })
}

/// Reads tree nodes from a blocking thread.
struct Source {
    store: Arc<dyn Store>,
    tenant: TenantId,
    log: LogId,
    handle: tokio::runtime::Handle,
}

impl NodeLookup for Source {
    type Error = SigningError;

    fn subtree(&self, level: u8, index: u64) -> Result<Option<Hash>, SigningError> {
        let hashes =
            self.handle
                .block_on(self.store.hashes(self.tenant, self.log, level, index, 1))?;
        Ok(hashes.first().copied())
    }

    fn subtrees(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> Result<Option<Vec<Hash>>, SigningError> {
        let read = self
            .store
            .hashes(self.tenant, self.log, level, first, u32::from(count));
        let hashes = self.handle.block_on(read)?;
        Ok((hashes.len() == usize::from(count)).then_some(hashes))
    }
}
