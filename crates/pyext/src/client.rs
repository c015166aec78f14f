//! The client's half of the border: batches of messages and results as tuples, everything else as JSON text.

use super::{Failure, unfit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use sealmq_codec::{QoS, RetainHandling, SubscribeOptions};
use sealmq_node::{ClientConfig, Outgoing, Taken};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// `(topic, payload, qos, retain, properties JSON or None)`.
type Publish<'py> = (
    Bound<'py, PyString>,
    Bound<'py, PyBytes>,
    u8,
    bool,
    Option<Bound<'py, PyString>>,
);

/// Messages, and `(ticket, codes)`.
type News<'py> = (Bound<'py, PyList>, Vec<(u64, Bound<'py, PyBytes>)>);

#[pyclass(frozen, module = "sealmq._engine")]
pub struct Client {
    inner: sealmq_node::Client,
}

fn millis(timeout_ms: u64) -> Duration {
    Duration::from_millis(timeout_ms)
}

fn json(text: Option<&str>) -> Result<Value, Failure> {
    Ok(text.map_or(Ok(Value::Null), serde_json::from_str)?)
}

fn qos(bits: u8) -> Result<QoS, Failure> {
    QoS::from_bits(bits).ok_or_else(|| unfit("QoS is not 0, 1 or 2"))
}

/// 0 when nothing more will be heard of it.
fn number(taken: Taken) -> Option<u64> {
    match taken {
        Taken::Sent => Some(0),
        Taken::Under(ticket) => Some(ticket),
        Taken::NoRoom => None,
    }
}

#[pymethods]
impl Client {
    #[staticmethod]
    #[pyo3(signature = (config, previous))]
    fn open(py: Python<'_>, config: &str, previous: Option<&Client>) -> PyResult<Client> {
        let config: ClientConfig = serde_json::from_str(config).map_err(Failure::from)?;
        let previous = previous.map(|client| &client.inner);
        let inner = py
            .detach(|| sealmq_node::Client::open(config, previous))
            .map_err(Failure::from)?;
        Ok(Client { inner })
    }

    fn connack(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<Option<String>> {
        let found = py
            .detach(|| self.inner.connack(millis(timeout_ms)))
            .map_err(Failure::from)?;
        Ok(found.map(|connack| connack.to_string()))
    }

    fn fileno(&self) -> i32 {
        self.inner.fd()
    }

    #[pyo3(signature = (topic, payload, qos, retain, properties))]
    fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
        properties: Option<&str>,
    ) -> PyResult<Option<u64>> {
        let message = Outgoing {
            topic,
            payload,
            qos: self::qos(qos)?,
            retain,
            properties: json(properties)?,
        };
        // The lock is held for moments only: letting go of the interpreter would cost more than waiting.
        Ok(number(self.inner.publish(&message).map_err(Failure::from)?))
    }

    fn publish_many(&self, messages: Vec<Publish<'_>>) -> PyResult<Vec<u64>> {
        let mut outgoing = Vec::with_capacity(messages.len());
        let mut texts = Vec::with_capacity(messages.len());
        for (topic, payload, qos, retain, properties) in &messages {
            texts.push((topic.to_cow()?, properties.as_ref().map(|p| p.to_cow()).transpose()?));
            outgoing.push((payload.as_bytes(), self::qos(*qos)?, *retain));
        }
        let mut made = Vec::with_capacity(messages.len());
        for ((topic, properties), (payload, qos, retain)) in texts.iter().zip(outgoing) {
            made.push(Outgoing {
                topic,
                payload,
                qos,
                retain,
                properties: json(properties.as_deref())?,
            });
        }
        let taken = self.inner.publish_many(made.into_iter()).map_err(Failure::from)?;
        Ok(taken.into_iter().filter_map(number).collect())
    }

    fn flush(&self) {
        self.inner.flush();
    }

    #[pyo3(signature = (filters, properties))]
    fn subscribe(&self, filters: Vec<(String, u8, bool, bool, u8)>, properties: Option<&str>) -> PyResult<u64> {
        let mut wanted = Vec::with_capacity(filters.len());
        for (filter, qos, no_local, retain_as_published, retain_handling) in filters {
            let retain_handling = match retain_handling {
                0 => RetainHandling::SendAlways,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(unfit("retain handling is not 0, 1 or 2").into()),
            };
            let options = SubscribeOptions {
                qos: self::qos(qos)?,
                no_local,
                retain_as_published,
                retain_handling,
            };
            wanted.push((filter, options));
        }
        Ok(self
            .inner
            .subscribe(&wanted, &json(properties)?)
            .map_err(Failure::from)?)
    }

    fn unsubscribe(&self, filters: Vec<String>) -> PyResult<u64> {
        Ok(self.inner.unsubscribe(&filters).map_err(Failure::from)?)
    }

    #[pyo3(signature = (most, timeout_ms))]
    fn poll<'py>(&self, py: Python<'py>, most: usize, timeout_ms: u64) -> PyResult<News<'py>> {
        let news = py
            .detach(|| self.inner.poll(most, millis(timeout_ms)))
            .map_err(Failure::from)?;
        let messages = PyList::empty(py);
        let none = PyString::new(py, "");
        let mut last: Option<(Arc<str>, Bound<'py, PyString>)> = None;
        for message in news.messages {
            // Message after message on one topic: one string for all of them.
            let topic = match &last {
                Some((same, text)) if Arc::ptr_eq(same, &message.topic) => text.clone(),
                _ => {
                    let text = PyString::new(py, &message.topic);
                    last = Some((Arc::clone(&message.topic), text.clone()));
                    text
                }
            };
            let properties = match message.properties() {
                text if text.is_empty() => none.clone(),
                text => PyString::new(py, &text),
            };
            let payload = PyBytes::new(py, &message.payload);
            let tuple: Bound<'py, PyTuple> =
                (topic, payload, message.qos, message.retain, properties).into_pyobject(py)?;
            messages.append(tuple)?;
        }
        let results = news
            .results
            .into_iter()
            .map(|done| (done.ticket, PyBytes::new(py, &done.codes)))
            .collect();
        Ok((messages, results))
    }

    fn result<'py>(&self, py: Python<'py>, ticket: u64, timeout_ms: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let found = py
            .detach(|| self.inner.result(ticket, millis(timeout_ms)))
            .map_err(Failure::from)?;
        Ok(found.map(|codes| PyBytes::new(py, &codes)))
    }

    fn has_room(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<bool> {
        Ok(py
            .detach(|| self.inner.has_room(millis(timeout_ms)))
            .map_err(Failure::from)?)
    }

    fn closing(&self) -> Option<String> {
        self.inner.closing().map(|closing| {
            let error = closing.error;
            serde_json::json!({
                "code": error.code,
                "message": error.what,
                "mend": error.mend,
                "reason_code": closing.reason_code,
                "retry_after": closing.retry_after,
            })
            .to_string()
        })
    }

    fn disconnect(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.inner.disconnect(millis(timeout_ms)))
    }
}
