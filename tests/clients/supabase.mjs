// What a desktop app does that signs in with supabase-js, against the server at COTEX_URL.
// Prints one JSON object: what each step gave.
import { GoTrueClient } from '@supabase/auth-js'
import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

const url = process.env.COTEX_URL
const email = process.env.COTEX_EMAIL
const password = process.env.COTEX_PASSWORD
const seen = {}

const told = (error) => error && { name: error.name, status: error.status, code: error.code }

const supabase = createClient(url, 'any-key', {
  auth: { autoRefreshToken: false, persistSession: false },
  realtime: { transport: WebSocket },
})
const wrong = await supabase.auth.signInWithPassword({ email, password: 'not the password' })
seen.wrong = told(wrong.error)

const first = await supabase.auth.signInWithPassword({ email, password })
seen.signIn = told(first.error)
const session = first.data.session
seen.session = { type: session.token_type, in: session.expires_in, email: session.user.email }

const user = await supabase.auth.getUser()
seen.user = { error: told(user.error), id: user.data.user.id }

const claims = await supabase.auth.getClaims(session.access_token)
seen.claims = { error: told(claims.error), sub: claims.data?.claims.sub, alg: claims.data?.header.alg }

const refreshed = await supabase.auth.refreshSession()
seen.refreshed = {
  error: told(refreshed.error),
  rotated: refreshed.data.session.refresh_token !== session.refresh_token,
}

const again = await supabase.auth.refreshSession({ refresh_token: session.refresh_token })
seen.again = {
  error: told(again.error),
  same: again.data.session?.refresh_token === refreshed.data.session.refresh_token,
}

const repos = await fetch(`${url}/api/repos`, {
  headers: { authorization: `Bearer ${refreshed.data.session.access_token}`, apikey: 'any-key' },
})
seen.repos = repos.status

seen.hello = await new Promise((resolve, reject) => {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?v=2`, [
    'cotex.v2',
    `cotex.bearer.${refreshed.data.session.access_token}`,
  ])
  socket.on('message', (data) => {
    resolve({ event: JSON.parse(data).event, protocol: socket.protocol })
    socket.close()
  })
  socket.on('error', reject)
})

const other = new GoTrueClient({ url: `${url}/auth/v1`, headers: { apikey: 'any-key' }, persistSession: false, autoRefreshToken: false })
const second = await other.signInWithPassword({ email, password })
seen.second = told(second.error)
const out = await other.signOut({ scope: 'others' })
seen.signOutOthers = told(out.error)
const after = await supabase.auth.refreshSession({ refresh_token: refreshed.data.session.refresh_token })
seen.afterSignOut = told(after.error)
const stillIn = await other.getUser()
seen.stillIn = told(stillIn.error)
const bye = await other.signOut({ scope: 'global' })
seen.signOut = told(bye.error)
const revoked = await fetch(`${url}/auth/v1/user`, {
  headers: { authorization: `Bearer ${second.data.session.access_token}` },
})
seen.revoked = revoked.status

console.log(JSON.stringify(seen))
