// Models and data sets from a hub on loopback: what is downloaded, where it lies, and what is said when it cannot be.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdir, readFile, readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Interrupted } from '../../../lib/base/errors.js'
import { hubSettings } from '../../../lib/hub/environment.js'
import { parseHubId, resolveDataset, resolveModel } from '../../../lib/hub/resolve.js'
import type { HubProgress, ResolveOptions } from '../../../lib/hub/resolve.js'
import { failsWith, temporaryFolder } from '../data/support.js'
import { HubServer, commitOf, sha256 } from './server.js'
import type { HubRepo } from './server.js'

const weights = Buffer.alloc(300_000, 'weights!')
const modelFiles = {
  'config.json': '{"model_type": "opt"}',
  'tokenizer.json': '{}',
  'README.md': 'text',
  'model.safetensors': weights,
  'pytorch_model.bin': Buffer.alloc(1000),
  'onnx/model.onnx': Buffer.alloc(1000),
}
const older = { ...modelFiles, 'config.json': '{"model_type": "opt", "old": true}' }
const model: HubRepo = { kind: 'model', id: 'owner/name', revisions: { main: modelFiles, 'refs/pr/1': older }, large: /safetensors|bin|onnx/ }
const rows = (n: number): string => `{"text": "row ${n}"}\n`
const dataset: HubRepo = { kind: 'dataset', id: 'owner/rows', revisions: { main: { 'data/train.jsonl': rows(1), 'data/test.jsonl': rows(2), 'README.md': 'text', 'dataset_infos.json': '{}', 'loader.py': '' } } }
const scripted: HubRepo = { kind: 'dataset', id: 'owner/scripted', revisions: { main: { 'scripted.py': '' }, 'refs/convert/parquet': { 'default/train/0000.parquet': 'PAR1' } } }

interface Setting {
  hub: HubServer
  cache: string
  options: ResolveOptions & { env: Record<string, string> }
}

async function setting(t: ExecutionContext, repos: HubRepo[] = [model, dataset, scripted]): Promise<Setting> {
  const hub = await HubServer.start(t, repos)
  const home = await temporaryFolder(t)
  return { hub, cache: join(home, 'hub'), options: { env: { HF_HOME: home, HF_ENDPOINT: hub.endpoint }, tries: 3, waitMs: 1, idleMs: 2000 } }
}

const blobs = async (cache: string, repo = 'models--owner--name'): Promise<string[]> => (await readdir(join(cache, repo, 'blobs'))).sort()

test('a model: the files it needs, in the layout of the Python cache', async (t) => {
  const { hub, cache, options } = await setting(t)
  const progress: HubProgress[] = []
  const folder = await resolveModel('owner/name', { ...options, onProgress: (p) => progress.push(p) })
  const commit = commitOf(modelFiles)
  t.is(folder, join(cache, 'models--owner--name', 'snapshots', commit))
  t.deepEqual((await readdir(folder)).sort(), ['config.json', 'model.safetensors', 'tokenizer.json'])
  t.is(await readFile(join(cache, 'models--owner--name', 'refs', 'main'), 'utf8'), commit)
  t.is(await readlink(join(folder, 'model.safetensors')), `../../blobs/${sha256(weights)}`)
  t.true((await readFile(join(folder, 'model.safetensors'))).equals(weights))
  t.is((await blobs(cache)).length, 3)
  t.is(progress.at(-1)!.bytes, progress[0]!.totalBytes)
  t.is(progress[0]!.totalBytes, weights.length + 23)
  t.true(progress.every((p, i) => p.id === 'owner/name' && (i === 0 || p.bytes >= progress[i - 1]!.bytes)))

  const before = hub.asked.length
  t.is(await resolveModel('owner/name', options), folder)
  t.is(hub.asked.length - before, 2, 'only the revision and the list of files are asked for again')
  const offline = { ...options, env: { ...options.env, HF_HUB_OFFLINE: '1' } }
  t.is(await resolveModel('owner/name', offline), folder)
  t.is(hub.asked.length - before, 2, 'nothing is asked for offline')
  await failsWith(t, () => resolveModel('owner/other', offline), 'the model owner/other in', 'nothing that is complete, and HF_HUB_OFFLINE is set', 'a run without HF_HUB_OFFLINE first')
  await failsWith(t, () => resolveModel('owner/name@v2', offline), 'owner/name at v2')
  hub.stop()
  t.is(await resolveModel('owner/name', options), folder, 'without a network, what is there')
})

test('a path that is there is left alone, and one that cannot be an id is no id', async (t) => {
  const { hub, options } = await setting(t)
  const folder = await temporaryFolder(t)
  t.is(await resolveModel(folder, options), folder)
  t.is(hub.asked.length, 0)
  for (const text of ['./owner/name', '/a/b', 'a', 'a/b/c', 'a/../b', 'data/rows.jsonl', 'owner/name@', 'a b/c', '../x', 'owner/na--me']) t.is(parseHubId(text), null, text)
  t.deepEqual(parseHubId('owner/name-1.5_x@refs/pr/1'), { id: 'owner/name-1.5_x', revision: 'refs/pr/1' })
  await failsWith(t, () => resolveDataset('data/rows.jsonl', options), 'a dataset at data/rows.jsonl, or a hub id such as owner/name', 'no such path')
})

test('a revision is another snapshot over the same blobs', async (t) => {
  const { cache, options } = await setting(t)
  await resolveModel('owner/name', options)
  const folder = await resolveModel('owner/name@refs/pr/1', options)
  t.is(folder, join(cache, 'models--owner--name', 'snapshots', commitOf(older)))
  t.is(await readFile(join(folder, 'config.json'), 'utf8'), older['config.json'])
  t.is((await blobs(cache)).length, 4)
  t.is(await resolveModel(`owner/name@${commitOf(older)}`, { ...options, env: { ...options.env, HF_HUB_OFFLINE: 'yes' } }), folder)
})

test('a data set: its data files only, those that are asked for, and the converted ones of a script', async (t) => {
  const { hub, options } = await setting(t)
  hub.pageSize = 1
  const some = await resolveDataset('owner/rows', { ...options, select: (names) => names.filter((name) => name.includes('train')) })
  t.deepEqual(await readdir(join(some, 'data')), ['train.jsonl'])
  const folder = await resolveDataset('owner/rows', options)
  t.deepEqual((await readdir(folder, { recursive: true })).sort(), ['data', 'data/test.jsonl', 'data/train.jsonl'])
  const converted = await resolveDataset('owner/scripted', options)
  t.is(await readFile(join(converted, 'default/train/0000.parquet'), 'utf8'), 'PAR1')
  t.is(await resolveDataset('owner/scripted', { ...options, env: { ...options.env, HF_HUB_OFFLINE: '1' } }), converted)
})

test('a model of .bin files, and one that is cut into several', async (t) => {
  const index = JSON.stringify({ weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' } })
  const shards = { 'config.json': '{}', 'model.safetensors.index.json': index, 'model-00001-of-00002.safetensors': 'a', 'model-00002-of-00002.safetensors': 'b', 'pytorch_model-00001-of-00001.bin': 'c', 'adapter.safetensors': 'd' }
  const { options, cache } = await setting(t, [
    { kind: 'model', id: 'o/bin', revisions: { main: { 'config.json': '{}', 'pytorch_model.bin': 'x', 'training_args.bin': 'y' } } },
    { kind: 'model', id: 'o/cut', revisions: { main: shards } },
    { kind: 'model', id: 'o/none', revisions: { main: { 'config.json': '{}' } } },
  ])
  for (const id of ['o/bin', 'o/cut', 'o/none']) t.deepEqual(await readdir(await resolveModel(id, { ...options, weights: false })), ['config.json'], 'no weights where none are asked for')
  t.deepEqual(await readdir(await resolveModel('o/cut', { ...options, weights: false, env: { ...options.env, HF_HUB_OFFLINE: '1' } })), ['config.json'])
  t.deepEqual((await readdir(await resolveModel('o/bin', options))).sort(), ['config.json', 'pytorch_model.bin'])
  const cut = await resolveModel('o/cut', options)
  t.deepEqual((await readdir(cut)).sort(), ['config.json', 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', 'model.safetensors.index.json'])
  await failsWith(t, () => resolveModel('o/none', options), 'config.json and weights', 'in o/none, received none of them')
  await rm(join(cut, 'model-00002-of-00002.safetensors'))
  await failsWith(t, () => resolveModel('o/cut', { ...options, env: { ...options.env, HF_HUB_OFFLINE: '1' } }), 'nothing that is complete')
  t.is(await resolveModel('o/cut', options), cut)
  t.true((await lstat(join(cache, 'models--o--cut', 'snapshots', commitOf(shards), 'model-00002-of-00002.safetensors'))).isSymbolicLink())
})

for (const [what, name, ranges] of [['a large file', 'model.safetensors', true], ['a large file of a server without ranges', 'model.safetensors', false], ['a small file', 'config.json', true]] as const) {
  test(`a cut connection: ${what} is taken up where it ended`, async (t) => {
    const { hub, options } = await setting(t)
    hub.ranges = ranges
    hub.faults.set(name, [{ cut: 7 }, { status: 503 }, { cut: 3 }])
    const folder = await resolveModel('owner/name', options)
    t.is(sha256(await readFile(join(folder, name))), sha256(modelFiles[name]))
    const host = name === 'config.json' ? 'hub' : 'storage'
    const asked = hub.got(name).filter((each) => each.host === host).map(({ range }) => range)
    t.deepEqual(asked, [undefined, 'bytes=7-', 'bytes=7-', ranges ? 'bytes=10-' : 'bytes=3-'])
  })
}

test('a download that fails for good keeps its part, and the next one goes on from there', async (t) => {
  const { hub, cache, options } = await setting(t)
  hub.faults.set('model.safetensors', [{ cut: 100_000 }, { status: 500 }, { status: 500 }, { status: 500 }])
  await failsWith(t, () => resolveModel('owner/name', options), '[hub] expected the model owner/name', '500 from', 'what has arrived is kept')
  t.deepEqual(await blobs(cache).then((names) => names.filter((n) => n.endsWith('incomplete'))), [`${sha256(weights)}.incomplete`])
  await resolveModel('owner/name', options)
  t.is(hub.got('model.safetensors').at(-1)!.range, 'bytes=100000-')
  t.false((await blobs(cache)).some((name) => name.includes('incomplete')))
})

test('parts that a killed process left, or that are longer than the file, are no harm', async (t) => {
  const { cache, hub, options } = await setting(t)
  const folder = join(cache, 'models--owner--name', 'blobs')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${sha256(weights)}.incomplete`), Buffer.alloc(weights.length + 5))
  await resolveModel('owner/name', options)
  t.is(hub.got('model.safetensors').at(-1)!.range, undefined)
  // the right length, but other bytes: the checksum tells, and the next run begins anew
  await rm(join(folder, sha256(weights)))
  await writeFile(join(folder, `${sha256(weights)}.incomplete`), Buffer.alloc(weights.length))
  await failsWith(t, () => resolveModel('owner/name', options), 'model.safetensors of owner/name with the checksum', 'another one')
  await resolveModel('owner/name', options)
  t.true((await readFile(join(folder, sha256(weights)))).equals(weights))
})

test('a wrong checksum, wrong size or changed file is never put in place', async (t) => {
  const { hub, cache, options } = await setting(t)
  const wrong: [fault: Parameters<typeof hub.faults.set>[1][number], ...says: string[]][] = [
    [{ instead: Buffer.alloc(weights.length, 'x') }, 'model.safetensors of owner/name with the checksum', 'another one'],
    [{ instead: Buffer.alloc(weights.length + 1, 'x') }, `${weights.length} bytes of model.safetensors`, 'more'],
  ]
  for (const [fault, ...says] of wrong) {
    hub.faults.set('model.safetensors', [fault])
    await failsWith(t, () => resolveModel('owner/name', options), '[hub]', ...says)
    t.false((await blobs(cache)).some((name) => name.startsWith(sha256(weights))), 'neither a file nor a part of it')
  }
  await rm(cache, { recursive: true })
  hub.faults.set('tokenizer.json', [{ etag: '0'.repeat(40) }])
  await failsWith(t, () => resolveModel('owner/name', options), 'tokenizer.json of owner/name as it is at', '0'.repeat(40))
})

test('the token goes to the hub alone', async (t) => {
  const { hub, options } = await setting(t)
  hub.token = 'hf_secret'
  await failsWith(t, () => resolveModel('owner/name', options), 'a model folder at owner/name, or a repository of that name on the hub', 'no such path here, and 401 RepoNotFound', 'HF_TOKEN where it is private')
  await writeFile(join(options.env['HF_HOME']!, 'token'), 'hf_secret\n')
  await resolveModel('owner/name', options)
  t.true(hub.asked.filter(({ host }) => host === 'hub').slice(1).every(({ token }) => token === 'hf_secret'))
  t.deepEqual([...new Set(hub.asked.filter(({ host }) => host === 'storage').map(({ token }) => token))], [undefined])
})

test('refusals say what to do', async (t) => {
  const { hub, options } = await setting(t, [model, { kind: 'model', id: 'o/gated', gated: 'anonymous', revisions: { main: modelFiles } }, { kind: 'model', id: 'o/shut', gated: 'always', revisions: { main: modelFiles } }])
  const env = { ...options.env, HF_TOKEN: 'hf_mine' }
  await failsWith(t, () => resolveModel('o/gated', options), 'access to the model o/gated', '403 GatedRepo', `to ask for access at ${hub.endpoint}/o/gated, then set HF_TOKEN`)
  await t.notThrowsAsync(() => resolveModel('o/gated', { ...options, env }))
  await failsWith(t, () => resolveModel('o/shut', { ...options, env }), 'access to the model o/shut', 'with the account that HF_TOKEN belongs to')
  await failsWith(t, () => resolveModel('o/absent', options), 'a model folder at o/absent, or a repository of that name', 'no such path here, and 401')
  await failsWith(t, () => resolveDataset('o/absent', options), 'a dataset folder at o/absent')
  await failsWith(t, () => resolveModel('owner/name@v9', options), 'the revision v9 of the model owner/name', '404 RevisionNotFound')
  await failsWith(t, () => resolveModel('owner/name@../x', options), 'a revision of plain names')
  await failsWith(t, () => hubSettings({ HF_ENDPOINT: 'hub.example' }), '[HF_ENDPOINT]', '"hub.example"')
  hub.statuses.push(500, 429, 503)
  await failsWith(t, () => resolveModel('owner/name', options), 'the model owner/name as a path, or from', '503 from')
  hub.statuses.push(500, 429)
  await t.notThrowsAsync(() => resolveModel('owner/name', options), 'the third try')
  hub.stop()
  await failsWith(t, () => resolveModel('owner/else', options), 'no such path, and fetch failed: connect ECONNREFUSED')
})

test('names that would leave the cache, and answers that are no hub, are refused', async (t) => {
  const { options } = await setting(t, [{ kind: 'dataset', id: 'o/evil', revisions: { main: { '../../../x.jsonl': 'x' } } }])
  await failsWith(t, () => resolveDataset('o/evil', options), 'a file name of plain names', '"../../../x.jsonl"')
})

test('a stop ends a download that waits, and keeps the part', async (t) => {
  const { hub, cache, options } = await setting(t)
  const stopper = new AbortController()
  hub.faults.set('model.safetensors', [{ stall: true }])
  const onProgress = (p: HubProgress): void => (p.file === 'model.safetensors' && p.bytes > 25 ? stopper.abort() : undefined)
  await t.throwsAsync(resolveModel('owner/name', { ...options, signal: stopper.signal, onProgress }), { instanceOf: Interrupted })
  t.true((await blobs(cache)).includes(`${sha256(weights)}.incomplete`))
  hub.faults.set('model.safetensors', [{ stall: true }])
  const started = Date.now()
  await resolveModel('owner/name', { ...options, idleMs: 300 })
  t.true(Date.now() - started < 10_000, 'a connection on which nothing comes is given up')
})

test('two processes at once end with one whole file each can read', async (t) => {
  const { hub, cache, options } = await setting(t)
  hub.faults.set('model.safetensors', [{ cut: 50_000 }, { cut: 90_000 }, { cut: 10 }])
  const script = `import { resolveModel } from './lib/hub/resolve.ts'
    resolveModel('owner/name', { tries: 8, waitMs: 5 }).then((folder) => console.log(folder))`
  const run = async (): Promise<string> => {
    const child = spawn(process.execPath, ['--import=tsx', '--input-type=module', '-e', script], { env: { ...process.env, ...options.env }, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk) => (text += String(chunk)))
    const [status] = (await once(child, 'close')) as [number]
    t.is(status, 0)
    return text.trim()
  }
  const [a, b] = await Promise.all([run(), run()])
  t.is(a, b)
  t.is(sha256(await readFile(join(a!, 'model.safetensors'))), sha256(weights))
  t.deepEqual((await blobs(cache)).filter((name) => !/^[0-9a-f]+$/.test(name)), [])
})

test('where the files and the token are, by the environment', async (t) => {
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'token'), ' hf_file \n')
  const where = async (env: Record<string, string>): Promise<string> => relative(folder, (await hubSettings(env)).cache)
  t.is(await where({ HF_HOME: folder }), 'hub')
  t.is(await where({ HF_HOME: folder, HF_HUB_CACHE: join(folder, 'x') }), 'x')
  t.is(await where({ XDG_CACHE_HOME: folder }), 'huggingface/hub')
  t.like(await hubSettings({ HF_HOME: folder }), { token: 'hf_file', endpoint: 'https://huggingface.co', offline: false })
  t.like(await hubSettings({ HF_HOME: folder, HF_TOKEN: 'hf_env', HF_ENDPOINT: 'http://mirror.example/hub/', HF_HUB_OFFLINE: 'ON' }), { token: 'hf_env', endpoint: 'http://mirror.example/hub', offline: true })
  t.is((await hubSettings({ HF_HOME: join(folder, 'none') })).token, null)
})
