// Carries out requests in JSON from stdin with kafkajs, one answer a line: {"ok": ...} or {"code": ..., "message": ...}.
'use strict'

const readline = require('readline')
const { Kafka, logLevel, CompressionTypes, ConfigResourceTypes, AssignerProtocol } = require('kafkajs')

const READ_MS_MAX = 30000
const BATCH_BYTES_MAX = 1000000
const TOPIC_ALREADY_EXISTS = 36
const RESOURCES = { TOPIC: ConfigResourceTypes.TOPIC }
const clients = new Map()
const groups = { next: 0 }

function clientOf(bootstrap) {
  if (!clients.has(bootstrap)) {
    const kafka = new Kafka({ clientId: 'kafkajs', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 5 } })
    clients.set(bootstrap, { kafka, admin: kafka.admin() })
  }
  return clients.get(bootstrap)
}

const bytes = text => (text === null ? null : Buffer.from(text, 'base64'))
const text = buffer => (buffer === null || buffer === undefined ? null : Buffer.from(buffer).toString('base64'))

// Several headers of one name are a list; their order among other names is lost.
function headersOf(pairs) {
  const headers = {}
  for (const [name, value] of pairs) {
    const content = bytes(value)
    if (name in headers) headers[name] = [].concat(headers[name], [content])
    else headers[name] = content
  }
  return headers
}

async function write(kafka, { topic, partition, codec, records }) {
  const producer = kafka.producer()
  await producer.connect()
  const messages = records.map(record => ({
    partition,
    key: bytes(record.key),
    value: bytes(record.value),
    headers: headersOf(record.headers),
    ...(record.timestamp === null ? {} : { timestamp: String(record.timestamp) }),
  }))
  const compression = codec === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None
  try {
    // A call is a batch, whatever its size.
    let batch = []
    let size = 0
    const send = () => producer.send({ topic, acks: -1, compression, messages: batch })
    for (const message of messages) {
      const bytes = (message.value || '').length
      if (size + bytes > BATCH_BYTES_MAX && batch.length > 0) {
        await send()
        batch = []
        size = 0
      }
      batch.push(message)
      size += bytes
    }
    await send()
  } finally {
    await producer.disconnect()
  }
  return records.length
}

// kafkajs reads through a group only, so each read is a group of its own that starts at an offset.
async function read(kafka, { topic, partition, count, offset }) {
  const consumer = kafka.consumer({ groupId: `kafkajs-read-${process.pid}-${groups.next++}`, maxWaitTimeInMs: 100 })
  const got = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`read ${got.length} of ${count} records`)), READ_MS_MAX)
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
      const done = consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition: from, message }) => {
          if (from !== partition || got.length >= count || Number(message.offset) < offset) return
          got.push({
            offset: Number(message.offset),
            timestamp: Number(message.timestamp),
            key: text(message.key),
            value: text(message.value),
            headers: Object.entries(message.headers).flatMap(([name, value]) =>
              [].concat(value).map(each => [name, text(each)])),
          })
          if (got.length === count) {
            clearTimeout(timer)
            resolve()
          }
        },
      })
      done.then(() => consumer.seek({ topic, partition, offset: String(offset) }), reject)
    })
  } finally {
    await consumer.disconnect()
  }
  return got
}

function resource(request) {
  return { type: RESOURCES[request.type || 'TOPIC'], name: request.entity || request.topic }
}

const OPERATIONS = {
  create_topic: async (admin, { topic, partitions, config }) => {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    const created = await admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }] })
    // It says so, and raises nothing.
    if (!created) throw Object.assign(new Error('the topic exists'), { code: TOPIC_ALREADY_EXISTS })
  },
  delete_topic: (admin, { topic }) => admin.deleteTopics({ topics: [topic] }),
  topics: async admin => (await admin.listTopics()).sort(),
  partitions: async (admin, { topic }) => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length,
  create_partitions: (admin, { topic, total }) => admin.createPartitions({ topicPartitions: [{ topic, count: total }] }),
  alter_config: (admin, request) => admin.alterConfigs({
    validateOnly: false,
    resources: [{ ...resource(request), configEntries: [{ name: request.name, value: request.value }] }],
  }),
  config: async (admin, request) => {
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ ...resource(request), configNames: [request.name] }] })
    return resources[0].configEntries[0].configValue
  },
  delete_records: async (admin, { topic, partition, before }) => {
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
    return null
  },
  offsets: async (admin, { topic, partition }) => {
    const found = (await admin.fetchTopicOffsets(topic)).find(each => each.partition === partition)
    return [Number(found.low), Number(found.high)]
  },
  groups: async admin => Object.fromEntries((await admin.listGroups()).groups.map(({ groupId }) => [groupId, null])),
  group: async (admin, { group }) => {
    const [found] = (await admin.describeGroups([group])).groups
    const assigned = found.members.flatMap(({ memberAssignment }) => {
      if (memberAssignment.length === 0) return []
      const { assignment } = AssignerProtocol.MemberAssignment.decode(memberAssignment)
      return Object.entries(assignment).flatMap(([topic, ids]) => ids.map(id => `${topic}-${id}`))
    })
    return { state: found.state, members: found.members.length, assigned: assigned.sort() }
  },
  committed: async (admin, { group, topic }) => {
    const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    return Object.fromEntries(found.partitions.filter(({ offset }) => offset !== '-1').map(({ partition, offset }) => [partition, Number(offset)]))
  },
  commit: (admin, { group, topic, offsets }) => admin.setOffsets({
    groupId: group, topic,
    partitions: Object.entries(offsets).map(([partition, offset]) => ({ partition: Number(partition), offset: String(offset) })),
  }),
  delete_group: (admin, { group }) => admin.deleteGroups([group]),
}

async function carryOut(request) {
  const { kafka, admin } = clientOf(request.bootstrap)
  if (request.op === 'write') return write(kafka, request)
  if (request.op === 'read') return read(kafka, request)
  await admin.connect()
  const answer = await OPERATIONS[request.op](admin, request)
  return answer === undefined || answer === true ? null : answer
}

// Errors of several resources in one request hide the reason one level down.
function codeOf(error) {
  const inner = error.groups ? error.groups[0].error : error.errors ? error.errors[0] : error
  const code = inner.code !== undefined ? inner.code : inner.cause && inner.cause.code
  return code === undefined ? null : code
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer
    try {
      answer = { ok: await carryOut(JSON.parse(line)) }
    } catch (error) {
      answer = { code: codeOf(error), message: String(error) }
    }
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
  process.exit(0)
}

main()
