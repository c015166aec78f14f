// An aedes broker with mutual TLS 1.3, for the comparison: node aedes.mjs PORT CLIENT-CA CERTIFICATE KEY.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:tls'
import { Aedes } from 'aedes'

const [port, ca, cert, key] = process.argv.slice(2)
const broker = await Aedes.createBroker({ concurrency: 1000, queueLimit: 65535, connectTimeout: 60000 })
const server = createServer({
  ca: readFileSync(ca),
  cert: readFileSync(cert),
  key: readFileSync(key),
  requestCert: true,
  rejectUnauthorized: true,
  minVersion: 'TLSv1.3',
  noDelay: true
}, broker.handle)
server.listen(Number(port), '127.0.0.1', 16384)
