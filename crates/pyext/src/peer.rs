//! The border of a TLS connection without a socket: bytes in, bytes out, and the secrets to read them.

use super::{EngineError, Failure};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sealmq_node::{PeerConfig, PeerState, TlsFailure};
use std::sync::{Mutex, MutexGuard, PoisonError};

pyo3::create_exception!(sealmq._engine, TlsError, EngineError, "A TLS connection failed.");

#[pyclass(frozen, module = "sealmq._engine")]
pub struct TlsPeer {
    inner: Mutex<sealmq_node::TlsPeer>,
}

impl TlsPeer {
    fn lock(&self) -> MutexGuard<'_, sealmq_node::TlsPeer> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word(state: PeerState) -> &'static str {
    match state {
        PeerState::Handshaking => "handshaking",
        PeerState::Open => "open",
        PeerState::Closed => "closed",
    }
}

fn raised(failure: TlsFailure) -> PyErr {
    let error = failure.error;
    TlsError::new_err((error.code, error.what, error.mend, failure.alert))
}

#[pymethods]
impl TlsPeer {
    #[staticmethod]
    #[pyo3(signature = (config, previous))]
    fn open(config: &str, previous: Option<&TlsPeer>) -> PyResult<TlsPeer> {
        let config: PeerConfig = serde_json::from_str(config).map_err(Failure::from)?;
        let previous = previous.map(TlsPeer::lock);
        let inner = sealmq_node::TlsPeer::open(&config, previous.as_deref()).map_err(Failure::from)?;
        Ok(TlsPeer {
            inner: Mutex::new(inner),
        })
    }

    fn feed(&self, data: &[u8]) -> PyResult<&'static str> {
        self.lock().feed(data).map(word).map_err(raised)
    }

    fn take<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().take())
    }

    fn state(&self) -> &'static str {
        word(self.lock().state())
    }

    fn facts(&self) -> Option<String> {
        self.lock().facts().map(|facts| facts.to_string())
    }

    fn write(&self, data: &[u8]) -> PyResult<()> {
        Ok(self.lock().write(data).map_err(Failure::from)?)
    }

    fn read<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().read())
    }

    fn key_log(&self) -> Vec<String> {
        self.lock().key_log()
    }

    fn close(&self) {
        self.lock().close();
    }
}
