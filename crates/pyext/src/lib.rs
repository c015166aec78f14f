//! `sealmq._engine`: the border between Python and the data plane. Translation, nothing else.
//!
//! Structured values cross as JSON text. The interpreter is released while the data plane waits. Errors become one
//! exception with (code, sentence, mend). The contract is `src/sealmq/_engine.pyi`.
#![forbid(unsafe_code)]

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;
use sealmq_node::{ClientError, Facts, NodeConfig, NodeError, OtherFleet, Retain, RevokedConfig, Wanted, describe};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod client;
mod peer;

pyo3::create_exception!(
    sealmq._engine,
    EngineError,
    PyException,
    "The data plane could not do what was asked."
);

/// Everything that can go wrong on this side of the border, on its way to the one exception.
struct Failure {
    code: String,
    what: String,
    mend: String,
}

impl From<NodeError> for Failure {
    fn from(e: NodeError) -> Failure {
        Failure {
            code: e.code.into(),
            what: e.what,
            mend: e.mend,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Failure {
        Failure {
            code: e.code.into(),
            what: e.what,
            mend: e.mend,
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Failure {
        Failure {
            code: "config-invalid".into(),
            what: format!("configuration cannot be read: {e}"),
            mend: String::new(),
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        EngineError::new_err((failure.code, failure.what, failure.mend))
    }
}

fn unfit(what: &str) -> Failure {
    Failure {
        code: "config-invalid".into(),
        what: what.into(),
        mend: String::new(),
    }
}

#[pyclass(frozen, module = "sealmq._engine")]
struct Node {
    inner: sealmq_node::Node,
    /// The facts of the last poll: their memory is that of the next one.
    facts: Mutex<Facts>,
}

impl Node {
    /// Locked for an instant, never while anything waits.
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Node {
    #[staticmethod]
    fn start(py: Python<'_>, config: &str) -> PyResult<Node> {
        let config: NodeConfig = serde_json::from_str(config).map_err(Failure::from)?;
        let inner = py.detach(|| sealmq_node::Node::start(&config)).map_err(Failure::from)?;
        Ok(Node {
            inner,
            facts: Mutex::default(),
        })
    }

    fn addresses(&self) -> Vec<(String, String)> {
        self.inner
            .addresses()
            .iter()
            .map(|(kind, address)| ((*kind).to_owned(), address.clone()))
            .collect()
    }

    fn poll_events<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Bound<'py, PyList>> {
        let facts = py.detach(|| {
            let mut facts = std::mem::take(&mut *self.facts());
            self.inner.poll_events(Duration::from_millis(timeout_ms), &mut facts);
            facts
        });
        let found = facts.iter().map(|[client_id, device, peer, certificate, event, json]| {
            (event, client_id, device, peer, certificate, json)
        });
        let found = PyList::new(py, found);
        *self.facts() = facts;
        found
    }

    fn stats(&self, py: Python<'_>) -> String {
        py.detach(|| self.inner.stats().to_string())
    }

    #[pyo3(signature = (device, timeout_ms))]
    fn record_next(&self, py: Python<'_>, device: Option<String>, timeout_ms: u64) -> PyResult<Option<String>> {
        let wanted = device.map_or(Wanted::Anyone, Wanted::Device);
        let timeout = Duration::from_millis(timeout_ms);
        let recording = py
            .detach(|| self.inner.record_next(wanted, timeout))
            .map_err(Failure::from)?;
        Ok(recording.map(|r| r.to_string()))
    }

    fn sessions(&self, py: Python<'_>) -> String {
        py.detach(|| self.inner.sessions().to_string())
    }

    fn disconnect_device(&self, py: Python<'_>, device: &str, reason_code: u8, reason: &str) -> PyResult<usize> {
        Ok(py
            .detach(|| self.inner.disconnect_device(device, reason_code, reason))
            .map_err(Failure::from)?)
    }

    fn revoke(&self, py: Python<'_>, revocation: &str) -> PyResult<String> {
        let revoked: RevokedConfig = serde_json::from_str(revocation).map_err(Failure::from)?;
        let outcome = py.detach(|| self.inner.revoke(&revoked)).map_err(Failure::from)?;
        Ok(outcome.to_string())
    }

    fn publish(&self, py: Python<'_>, topic: &str, payload: &[u8], retain: bool) -> PyResult<()> {
        let retain = if retain { Retain::Keep } else { Retain::Pass };
        Ok(py
            .detach(|| self.inner.publish(topic, payload, retain))
            .map_err(Failure::from)?)
    }

    fn purge_device(&self, py: Python<'_>, device: &str) -> String {
        py.detach(|| self.inner.purge_device(device).to_string())
    }

    fn store_backup(&self, py: Python<'_>, to: PathBuf) -> PyResult<String> {
        let report = py.detach(|| self.inner.store_backup(&to)).map_err(Failure::from)?;
        Ok(report.to_string())
    }

    fn store_check(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(py.detach(|| self.inner.store_check()).map_err(Failure::from)?)
    }

    fn reload(&self, py: Python<'_>, config: &str) -> PyResult<()> {
        let config: NodeConfig = serde_json::from_str(config).map_err(Failure::from)?;
        Ok(py.detach(|| self.inner.reload(&config)).map_err(Failure::from)?)
    }

    fn stop(&self, py: Python<'_>, grace_ms: u64) {
        py.detach(|| self.inner.stop(Duration::from_millis(grace_ms)));
    }
}

#[pyfunction]
fn default_limits() -> String {
    serde_json::json!(sealmq_node::default_limits()).to_string()
}

#[pyfunction]
#[pyo3(signature = (config_json, identity, client_id, action, topic))]
fn explain_rule(
    config_json: &str,
    identity: Option<&str>,
    client_id: &str,
    action: &str,
    topic: &str,
) -> PyResult<String> {
    let config: NodeConfig = serde_json::from_str(config_json).map_err(Failure::from)?;
    let found = sealmq_node::explain_rule(&config, identity, client_id, action, topic).map_err(Failure::from)?;
    Ok(found.to_string())
}

#[pyfunction]
fn store_check(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    Ok(py.detach(|| sealmq_node::store_check(&path)).map_err(Failure::from)?)
}

#[pyfunction]
fn store_stats(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let stats = py.detach(|| sealmq_node::store_stats(&path)).map_err(Failure::from)?;
    Ok(stats.to_string())
}

#[pyfunction]
fn store_backup(py: Python<'_>, path: PathBuf, to: PathBuf) -> PyResult<String> {
    let report = py
        .detach(|| sealmq_node::store_backup(&path, &to))
        .map_err(Failure::from)?;
    Ok(report.to_string())
}

#[pyfunction]
#[pyo3(signature = (backup, to, fleet, *, take_over))]
fn store_restore(py: Python<'_>, backup: PathBuf, to: PathBuf, fleet: &str, take_over: bool) -> PyResult<String> {
    let other = if take_over {
        OtherFleet::TakeOver
    } else {
        OtherFleet::Refuse
    };
    let report = py
        .detach(|| sealmq_node::store_restore(&backup, &to, fleet, other))
        .map_err(Failure::from)?;
    Ok(report.to_string())
}

#[pyfunction]
fn decode_packets(version: &str, data: &[u8]) -> PyResult<(Vec<String>, usize, Option<String>)> {
    let version = describe::version(version).ok_or_else(|| unfit("version is neither 3.1.1 nor 5.0"))?;
    let (packets, used, fault) = describe::packets(version, data);
    Ok((packets.iter().map(ToString::to_string).collect(), used, fault))
}

#[pyfunction]
fn encode_packet(version: &str, packet: &str) -> PyResult<Vec<u8>> {
    let version = describe::version(version).ok_or_else(|| unfit("version is neither 3.1.1 nor 5.0"))?;
    let packet = serde_json::from_str(packet).map_err(Failure::from)?;
    let bytes = describe::encode(version, &packet).ok_or_else(|| unfit("packet has no such kind, or lacks a field"))?;
    Ok(bytes)
}

#[pymodule]
mod _engine {
    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::peer::{TlsError, TlsPeer};
    #[pymodule_export]
    use super::{
        EngineError, Node, decode_packets, default_limits, encode_packet, explain_rule, store_backup, store_check,
        store_restore, store_stats,
    };

    #[pymodule_export]
    const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");
}
