//! A CA's own log of devices: which of them was seen under whom. A file of JSON lines that is only
//! appended to. Devices stand in it as keyed hashes; the key is the file's first line, so the file is
//! as secret as the list of its subscribers' devices.

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use countersign_attestation::register::{DeviceName, SeenBefore, Sighting};
use countersign_attestation::result::AttestationResult;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The form of the file.
const VERSION: u8 = 1;
/// Longest line read: a name, some hashes and a time.
const LONGEST_LINE: u64 = 4096;
/// Longest name of a subscriber.
const LONGEST_NAME: usize = 256;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    device_log: u8,
    /// HMAC key, hex.
    key: String,
}

/// An open device log; others wait until it is closed.
pub(super) struct DeviceLog {
    path: PathBuf,
    file: File,
    key: [u8; 32],
    sightings: Vec<Sighting>,
}

impl DeviceLog {
    /// Opens a log, or makes an empty one that its owner alone may read.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e: &std::io::Error| Failure::usage(format!("{}: {e}", path.display()));
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|e| failed(&e))?;
        file.lock().map_err(|e| failed(&e))?;
        if file.metadata().map_err(|e| failed(&e))?.len() == 0 {
            let mut key = [0; 32];
            getrandom::fill(&mut key)
                .map_err(|e| Failure::new(Exit::Internal, "random", e.to_string()))?;
            let head = Head {
                device_log: VERSION,
                key: hex::encode(key),
            };
            write_line(&mut file, &head).map_err(|e| failed(&e))?;
        }
        let bad = |line: usize, why: &str| {
            Failure::usage(format!("{}: line {line}: {why}", path.display()))
        };
        let mut reader = BufReader::new(file.try_clone().map_err(|e| failed(&e))?);
        std::io::Seek::rewind(&mut reader).map_err(|e| failed(&e))?;
        let (mut key, mut sightings) = (None, Vec::new());
        for number in 1.. {
            let mut line = Vec::new();
            let n = (&mut reader)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .map_err(|e| failed(&e))?;
            if n == 0 {
                break;
            }
            // What a crash cut short would be joined to the next line: nothing is added to such a file.
            if line.pop() != Some(b'\n') {
                return Err(bad(number, "has no end"));
            }
            if key.is_none() {
                let head: Head = serde_json::from_slice(&line)
                    .map_err(|e| bad(number, &format!("is no device log's head: {e}")))?;
                let bytes = hex::decode(&head.key).ok().and_then(|k| k.try_into().ok());
                let (VERSION, Some(bytes)) = (head.device_log, bytes) else {
                    return Err(bad(number, "is of a version that is not known here"));
                };
                key = Some(bytes);
            } else {
                let sighting = serde_json::from_slice(&line)
                    .map_err(|e| bad(number, &format!("is no sighting: {e}")))?;
                sightings.push(sighting);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            key: key.ok_or_else(|| bad(1, "is missing"))?,
            sightings,
        })
    }

    /// What is known of the result's device, into the result.
    pub(super) fn look(&self, result: &mut AttestationResult) {
        let device = self.device(result);
        let device = device.as_ref().map(|(hash, names)| (hash.as_str(), *names));
        result.seen_before = Some(SeenBefore::look(device, self.sightings.iter()));
    }

    /// Notes an accepted key. The same key under the same name is noted once.
    pub(super) fn note(&mut self, result: &AttestationResult, subscriber: &str) -> Result<()> {
        if !(1..=LONGEST_NAME).contains(&subscriber.len())
            || subscriber.chars().any(char::is_control)
        {
            let text =
                format!("--subscriber: 1 to {LONGEST_NAME} bytes without control characters");
            return Err(Failure::usage(text));
        }
        let (Some((device, names)), Some(key)) = (self.device(result), &result.subject) else {
            return Ok(());
        };
        let known = |s: &Sighting| {
            s.device == device && s.subscriber == subscriber && s.spki_sha256 == key.spki_sha256
        };
        if self.sightings.iter().any(known) {
            return Ok(());
        }
        let sighting = Sighting {
            device,
            names,
            subscriber: subscriber.to_owned(),
            spki_sha256: key.spki_sha256.clone(),
            at: result.appraised_at,
        };
        write_line(&mut self.file, &sighting)
            .map_err(|e| Failure::usage(format!("{}: {e}", self.path.display())))?;
        self.sightings.push(sighting);
        Ok(())
    }

    fn device(
        &self,
        result: &AttestationResult,
    ) -> Option<(String, countersign_attestation::result::SerialScope)> {
        let name = DeviceName::of(&result.facts)?;
        Some((name.keyed_hash(&self.key), name.names))
    }
}

/// One line in one write, on the disk when this returns.
fn write_line(file: &mut File, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_all()
}
