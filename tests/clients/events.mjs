// A user's events, in the way that COTEX_WAY names, from the server at COTEX_URL: as a line of JSON each.
import WebSocket from 'ws'

const { COTEX_URL: url, COTEX_TOKEN: token, COTEX_WAY: way, COTEX_ORIGIN: origin } = process.env
const headers = { authorization: `Bearer ${token}` }
const address = `${url.replace('http', 'ws')}/ws`

const tell = (message) => console.log(JSON.stringify(message))

const listen = (socket) => {
  socket.on('open', () => tell({ open: socket.protocol }))
  socket.on('message', (data) => tell(JSON.parse(data)))
  socket.on('close', (code) => tell({ closed: code }))
}

const ways = {
  // The desktop app as it is.
  legacy: () => listen(new WebSocket(address, { headers })),

  // What a page can do: no headers, but subprotocols.
  page: () => listen(new WebSocket(`${address}?v=2`, ['cotex.v2', `cotex.bearer.${token}`], { origin })),

  // What a page does that wants server-sent events and has a token.
  stream: async () => {
    const answer = await fetch(`${url}/api/events/stream`, { headers })
    tell({ open: answer.headers.get('content-type') })
    let rest = ''
    for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
      const events = (rest + part).split('\n\n')
      rest = events.pop()
      for (const event of events) {
        const data = event.split('\n').find((line) => line.startsWith('data: '))
        if (data) tell(JSON.parse(data.slice('data: '.length)))
      }
    }
    tell({ closed: null })
  },

  poll: async () => {
    const ask = async (query) => (await fetch(`${url}/api/events${query}`, { headers })).json()
    let { cursor } = await ask('')
    tell({ open: cursor })
    while (cursor) {
      const answer = await ask(`?after=${cursor}&wait=25`)
      answer.messages?.forEach(tell)
      cursor = answer.cursor
    }
    tell({ closed: null })
  },
}

await ways[way]()
